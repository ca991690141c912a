"""The instances JSON: what tools write is read, anything else is one line that names the item."""

import json
import tracemalloc

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.coco_json import parse_annotation, read_coco


def content():
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 5, "width": 6},
            {"id": "3", "file_name": "sub/b.jpg"},
        ],
        "categories": [{"id": 2, "name": "cat", "supercategory": "animal"}, {"id": 9, "name": 5}],
        "annotations": [
            {"image_id": "3", "category_id": 9.0, "segmentation": [[]], "bbox": [0, 0, 1, 1]},
            {"image_id": 7, "category_id": "2", "segmentation": [[0, 0, 1, 0, 1, 1]]},
            {"image_id": 3, "category_id": 2, "bbox": [0, 0, 1, 1]},
        ],
    }


def read(tmp_path, value):
    path = tmp_path / "instances.json"
    if not isinstance(value, bytes):
        value = (value if isinstance(value, str) else json.dumps(value, indent=1)).encode()
    path.write_bytes(value)
    return read_coco(path)


@pytest.mark.parametrize("order", [("info", "images", "annotations", "categories"), None])
def test_annotations_by_image_whatever_the_order(tmp_path, order):
    value = content() | {"info": {"year": 2014}, "licenses": [1, [2]], "more": {"x": None}}
    value = {key: value[key] for key in order or reversed(value)}
    coco = read(tmp_path, value)
    assert [(image.id, image.file_name, image.size) for image in coco.images] == [
        ("7", "a.jpg", (5, 6)),
        ("3", "sub/b.jpg", None),
    ]
    assert [(c.id, c.name, c.supercategory) for c in coco.categories] == [
        ("2", "cat", "animal"),
        ("9", "5", ""),
    ]
    np.testing.assert_array_equal(coco.image, [0, 1, 1])
    np.testing.assert_array_equal(coco.category, [0, 1, 0])
    np.testing.assert_array_equal(coco.drawn, [True, False, False])
    found = [(c, n, parse_annotation(text)) for c, n, text in coco.annotations(0, 3)]
    texts = content()["annotations"]
    assert found == [(0, 1, texts[1]), (1, 0, texts[0]), (0, 2, texts[2])]
    assert coco.info == {"year": 2014}


def test_byte_order_mark(tmp_path):
    assert len(read(tmp_path, b"\xef\xbb\xbf" + json.dumps(content()).encode()).images) == 2


def changed(part, place, **values):
    value = content()
    item = value[part][place]
    for key, new in values.items():
        if new is None:
            del item[key]
        else:
            item[key] = new
    return value


def without(key):
    value = content()
    del value[key]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xfe{", "byte 0 is not UTF-8"),
        ("", "holds no object"),
        ("[]", "holds a list"),
        ("{", "no JSON"),
        ('{"images": [}', "no JSON"),
        ('{"images": [] "annotations": []}', "'}' expected|',' or '}' expected"),
        ('{"images": []} x', "after the end"),
        ('{"images": 3}', "'images' is no list"),
        ('{"images": [3]}', "item 1 of 'images' is no object"),
        ('{"images": [], "images": []}', "'images' twice"),
        ('{"info": ' + "[" * 100_000, "nested too deep"),
        ('{"info": ' + "9" * 10_000 + "}", "too many digits"),
        ('{"images": [{"id": NaN}]}', "NaN is no number of JSON"),
        ('{"info": -Infinity}', "Infinity is no number of JSON"),
        (without("images"), "no 'images'"),
        (without("annotations"), "no 'annotations'"),
        (without("categories"), "no 'categories'"),
        (content() | {"images": [], "annotations": []}, "has no image"),
        (changed("images", 0, id=None), "image 1 has no 'id'"),
        (changed("images", 0, id=True), "'id' is true"),
        (changed("images", 0, id=[1]), r"'id' is \[1\]"),
        (changed("images", 0, id=3), "image id 3 is given twice, items 1 and 2"),
        (changed("images", 0, file_name=None), r"image 1 \(id 7\) has no 'file_name'"),
        (
            changed("images", 0, file_name="a\n.jpg"),
            r"'file_name' has the character U\+000A, which cannot be printed, in \"a\\n\.jpg\"",
        ),
        (
            changed("images", 0, file_name="long" * 30 + "\u202ex.jpg"),
            r"U\+202E, which cannot be printed, in \"longlonglong\\u202ex\.jpg\"; take it out",
        ),
        (changed("images", 0, file_name="a\ud800.jpg"), r"the character U\+D800"),
        (changed("images", 0, file_name="a\u2028.jpg"), r"the character U\+2028"),
        (changed("categories", 0, name="ca\u200bt"), r"'name' has the character U\+200B"),
        (changed("images", 0, width=None), r"height and width are \[5, null\]"),
        (changed("images", 0, width=1e999), "NaN|Infinity|whole pixels"),
        (changed("categories", 1, id="2"), "category id 2 is given twice"),
        (changed("categories", 1, name=None), r"category 2 \(id 9\) has no 'name'"),
        (changed("annotations", 1, image_id=None), "annotation 2 has no 'image_id'"),
        (changed("annotations", 1, image_id=8), "annotation 2 is of image 8, which"),
        (changed("annotations", 1, category_id=1), "annotation 2 is of category 1, which"),
    ],
)
def test_refused(tmp_path, value, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, value)
    assert str(tmp_path / "instances.json") in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2024-01-01 at 3.00.00\u202fPM.png",
        "写真\u3000一.jpg",
        "a\xa0b.jpg",
        "\u3000a.jpg",
        "می\u200cخواهم.jpg",
        "\U0001f468\u200d\U0001f469.jpg",
        "\ue000.jpg",
    ],
)
def test_names_with_spaces_of_all_kinds_and_joiners(tmp_path, name):
    assert read(tmp_path, changed("images", 0, file_name=name)).images[0].file_name == name


def test_memory_is_the_text_and_little_more(tmp_path):
    count = 20_000
    value = content()
    value["annotations"] = [value["annotations"][0]] * count
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(value))
    del value
    tracemalloc.start()
    coco = read_coco(path)
    held, peak = (bytes - path.stat().st_size for bytes in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert len(coco.image) == count
    assert held < 60 * count
    assert peak < 150 * count


def test_missing(tmp_path):
    with pytest.raises(InputError, match="instances JSON not found"):
        read_coco(tmp_path / "none.json")
