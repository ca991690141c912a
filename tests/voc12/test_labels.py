"""Image labels from each source: the same labels from all of them, and every way they can be
wrong.
"""

import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.mask_values import voc_palette
from voc12.constants import CLASSES
from voc12.labels import class_counts, class_table, load_labels, note_labels, save_labels

NAMES = ("cat", "dog", "person")
IDS = ["2007_000032", "2010_001234", "own"]
LABELS = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=np.float32)


def write_npy(path, table):
    np.save(path, np.array(table, dtype=object), allow_pickle=True)


def write_xml(root, name, objects, encoding="utf-8"):
    body = "".join(
        f"<object><name>{o}</name><difficult>1</difficult><part><name>head</name></part></object>"
        for o in objects
    )
    (root / "Annotations").mkdir(exist_ok=True)
    text = (
        "<?xml version='1.0' "
        f"encoding='{encoding}'?><annotation><owner><name>x</name></owner>{body}</annotation>"
    )
    (root / "Annotations" / f"{name}.xml").write_bytes(text.encode(encoding))


def write_mask(root, name, values, mode="P"):
    (root / "SegmentationClassAug").mkdir(exist_ok=True)
    mask = Image.fromarray(np.array(values, dtype=np.uint8))
    if mode == "P":
        mask.putpalette([0] * 768)
    mask.save(root / "SegmentationClassAug" / f"{name}.png")


def write_all_masks(root):
    for name, label in zip(IDS, LABELS, strict=True):
        write_mask(root, name, [[0, 255, *(np.flatnonzero(label) + 1)]])


def write_all_xml(root):
    for name, label in zip(IDS, LABELS, strict=True):
        present = [NAMES[c] for c in np.flatnonzero(label)]
        write_xml(root, name, present + present[:1])


def test_sources_agree_and_follow_the_order_of_ids(tmp_path):
    save_labels(tmp_path / "cls_labels.npy", IDS, LABELS)
    save_labels(tmp_path / "other.npy", IDS, LABELS)
    write_all_xml(tmp_path)
    write_all_masks(tmp_path)
    for source in (
        "auto",
        "npy",
        "xml",
        "mask",
        tmp_path / "other.npy",
        str(tmp_path / "other.npy"),
    ):
        labels = load_labels(tmp_path, IDS[::-1], NAMES, source)
        assert labels.dtype == np.float32
        np.testing.assert_array_equal(labels, LABELS[::-1])


def test_auto_takes_the_first_source_that_exists(tmp_path):
    with pytest.raises(
        InputError,
        match=re.escape(
            f"no image labels in {tmp_path}: none of cls_labels.npy, Annotations, Segm"
        ),
    ):
        load_labels(tmp_path, ["a"], NAMES)
    write_mask(tmp_path, "a", [[1]])
    assert load_labels(tmp_path, ["a"], NAMES).tolist() == [[1, 0, 0]]
    write_xml(tmp_path, "a", ["dog"])
    assert load_labels(tmp_path, ["a"], NAMES).tolist() == [[0, 1, 0]]
    save_labels(tmp_path / "cls_labels.npy", ["a"], np.array([[0, 0, 1]]))
    assert load_labels(tmp_path, ["a"], NAMES).tolist() == [[0, 0, 1]]


def test_saved_labels_are_the_fields_dict(tmp_path):
    save_labels(tmp_path / "cls_labels.npy", IDS, LABELS.astype(np.int64))
    table = np.load(tmp_path / "cls_labels.npy", allow_pickle=True).item()
    assert list(table) == IDS
    assert all(value.dtype == np.float32 and value.shape == (3,) for value in table.values())
    with pytest.raises(ValueError, match="shorter"):
        save_labels(tmp_path / "cls_labels.npy", IDS, LABELS[:2])
    assert len(np.load(tmp_path / "cls_labels.npy", allow_pickle=True).item()) == 3


def test_irns_integer_keys(tmp_path):
    write_npy(
        tmp_path / "cls_labels.npy", {2007000032: LABELS[0], 2010001234: LABELS[1], 7: LABELS[0]}
    )
    np.testing.assert_array_equal(load_labels(tmp_path, IDS[:2], NAMES), LABELS[:2])
    with pytest.raises(InputError, match="has no image label for 1 of 1 images: 8;"):
        load_labels(tmp_path, ["8"], NAMES)


@pytest.mark.parametrize("source", ["npy", "xml", "mask"])
def test_missing_ids_are_counted_and_the_first_ten_named(tmp_path, source):
    save_labels(tmp_path / "cls_labels.npy", IDS, LABELS)
    write_all_xml(tmp_path)
    write_all_masks(tmp_path)
    ids = [f"n{i}" for i in range(11)] + IDS
    with pytest.raises(
        InputError,
        match=re.escape(
            "has no image label for 11 of 14 images: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ..."
        ),
    ):
        load_labels(tmp_path, ids, NAMES, source)
    with pytest.raises(InputError, match=re.escape("has no image label for 1 of 4 images: n0; ")):
        load_labels(tmp_path, ["n0", *IDS], NAMES, source)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(20, np.float32), "the label of a has shape (20,), the class list has 3 names"),
        (
            np.zeros((2, 3), np.float32),
            "the label of a has shape (2, 3) and type float32; give a multi-hot vector, class",
        ),
        (None, "the label of a has shape () and type object; give a multi-hot vector, class"),
        (np.array([0, 0.5, 1]), "the label of a has values other than 0 and 1: [0.0, 0.5, 1.0]"),
        (np.array([0, np.nan, 1]), "the label of a has values other than 0 and 1: [0.0, nan, 1.0]"),
        (["cat", "0"], "the label of a: '0' is not in the class list (cat, dog, person)"),
        ([[0, 1], 1], "the label of a has shape () and type object; give a multi-hot vector"),
        ([[0, 1], [1]], "the label of a has shape () and type object; give a multi-hot vector"),
        ([1, 2, 0], "the label of a has values other than 0 and 1: [1, 2, 0]"),
    ],
)
def test_bad_vectors(tmp_path, value, message):
    path = tmp_path / "cls_labels.npy"
    write_npy(path, {"a": value})
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        load_labels(tmp_path, ["a"], NAMES)


def test_a_file_that_is_no_dict_and_a_source_that_is_none(tmp_path):
    np.save(tmp_path / "cls_labels.npy", LABELS)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "cls_labels.npy"))):
        load_labels(tmp_path, IDS, NAMES)
    with pytest.raises(
        InputError, match=re.escape(f"image labels not found: {tmp_path / 'no.npy'}")
    ):
        load_labels(tmp_path, IDS, NAMES, tmp_path / "no.npy")
    with pytest.raises(
        InputError,
        match=r"label source 'json' is none of auto, npy, xml, mask; image labels are a file",
    ):
        load_labels(tmp_path, IDS, NAMES, "json")


def test_class_outside_the_list_names_file_and_class(tmp_path):
    write_xml(tmp_path, "a", ["cat", "zebra"])
    path = tmp_path / "Annotations" / "a.xml"
    with pytest.raises(
        InputError,
        match=re.escape(f"{path}: class 'zebra' is not in the class list (cat, dog, person)"),
    ):
        load_labels(tmp_path, ["a"], NAMES, "xml")


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("<annotation xmlns='http://x'><object><name>cat</name></object></annotation>", [1, 0, 0]),
        ("<Annotation><Object><Name> cat </Name></Object></Annotation>", [1, 0, 0]),
        (
            "<annotation><object><name>dog</name><deleted>1</deleted></object>"
            "<object><name>cat</name><deleted>0</deleted></object></annotation>",
            [1, 0, 0],
        ),
        ("<annotation><source><annotation>x</annotation></source></annotation>", [0, 0, 0]),
    ],
)
def test_annotations_of_other_tools(tmp_path, capsys, text, row):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    assert load_labels(tmp_path, ["a"], NAMES, "xml").tolist() == [row]
    said = f"{tmp_path / 'Annotations'}: 1 objects are marked as deleted, e.g. in a.xml\n"
    assert (said in capsys.readouterr().out) == ("<deleted>1" in text)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "ha"><!ENTITY f "&e;&e;&e;">]>
<annotation><object><name>cat</name></object></annotation>"""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB.encode(), " is not a VOC annotation: DOCTYPE declarations are refused"),
        (
            BOMB.replace("?>", " encoding='utf-16'?>", 1).encode("utf-16"),
            " is not a VOC annotation: DOCTYPE declarations are refused",
        ),
        (
            b"<!DOCTYPE a SYSTEM 'file:///etc/hostname'><annotation/>",
            " is not a VOC annotation: DOCTYPE declarations are refused",
        ),
        (b"<annotation><object>", " is not a VOC annotation: "),
        (b"", " is not a VOC annotation: "),
        (b"<?xml version='1.0' encoding='no-such'?><a/>", " is not a VOC annotation: "),
        (
            b"<annotations><image><box label='cat'/></image></annotations>",
            " is not a VOC annotation: it is <annotations>, not <annotation>",
        ),
        (
            b"<html xmlns='http://x'><body>404</body></html>",
            " is not a VOC annotation: it is <html>, not <annotation>",
        ),
        (
            b"<annotation><objects><object><name>cat</name></object></objects></annotation>",
            " is not a VOC annotation: <object> is not where VOC has it: an <object> is in <anno",
        ),
        (
            b"<annotation><bndbox><xmin>1</xmin></bndbox><name>cat</name></annotation>",
            " is not a VOC annotation: <bndbox> is not where VOC has it: an <object> is in <anno",
        ),
        (
            b"<annotation><object><name>cat</name></object><object/></annotation>",
            " is not a VOC annotation: object 2 has no name",
        ),
    ],
)
def test_bad_annotations(tmp_path, data, message):
    path = tmp_path / "Annotations" / "a.xml"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        load_labels(tmp_path, ["a"], NAMES, "xml")


def test_difficult_objects_count_and_parts_do_not(tmp_path):
    write_xml(tmp_path, "a", ["person", "cat"], encoding="utf-16")
    assert load_labels(tmp_path, ["a"], NAMES, "xml").tolist() == [[1, 0, 1]]


def test_grey_masks_and_255_of_any_class_count(tmp_path):
    write_mask(tmp_path, "a", [[0, 2, 255]], mode="L")
    assert load_labels(tmp_path, ["a"], CLASSES, "mask")[0].nonzero()[0].tolist() == [1]
    write_mask(tmp_path, "b", [[254]])
    many = [f"c{i}" for i in range(254)]
    assert load_labels(tmp_path, ["b"], many, "mask")[0].nonzero()[0].tolist() == [253]


def test_bad_masks(tmp_path):
    write_mask(tmp_path, "a", [[0, 3, 4, 255]])
    path = tmp_path / "SegmentationClassAug" / "a.png"
    with pytest.raises(
        InputError, match=re.escape(f"{path} has value 4; 3 classes use 0..3, and 255 is ignored")
    ):
        load_labels(tmp_path, ["a"], NAMES, "mask")
    write_mask(tmp_path, "a", np.full((4, 4, 3), 9), mode="RGB")
    with pytest.raises(InputError, match=re.escape(f"mask {path} has the colour (9, 9, 9), none")):
        load_labels(tmp_path, ["a"], NAMES, "mask")
    write_mask(tmp_path, "a", np.arange(4096).reshape(64, 64) % 4)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=re.escape(f"cannot read mask {path}: ")):
        load_labels(tmp_path, ["a"], NAMES, "mask")


def test_images_without_a_class_are_zeros_and_counted(tmp_path, capsys):
    write_all_masks(tmp_path)
    labels = load_labels(tmp_path, IDS, NAMES)
    assert not labels[2].any()
    note_labels(IDS, labels, NAMES)
    assert capsys.readouterr().out == (
        "1 of 3 images show no class: background, for the classification loss alone\n"
    )
    note_labels(IDS[:2], labels[:2], NAMES)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="none of the 3 images shows a class, by their labels"):
        note_labels(IDS, np.zeros_like(labels), NAMES)


def test_labels_that_are_all_the_same_are_noted(capsys):
    note_labels(IDS, np.array([[1, 0, 1]] * 3), NAMES)
    assert capsys.readouterr().out == (
        "all 3 images have the same labels, cat, person: nothing can be learnt from them alone; "
        "add photographs without it, as background\n"
    )


def test_masks_in_other_forms_give_their_classes(tmp_path):
    (tmp_path / "SegmentationClass").mkdir()  # as VOC's archive has it
    rgb = np.array([[[0, 0, 0], [0, 128, 0]]], dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "SegmentationClass" / "a.png")
    assert load_labels(tmp_path, ["a"], NAMES).tolist() == [[0, 1, 0]]
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "SegmentationClass" / "a.png")
    assert load_labels(tmp_path, ["a"], ["crack"], "mask").tolist() == [[1]]


def test_mask_values_say_how_labels_are_read_from_masks(tmp_path):
    """Masks in VOC's colours in another order: dog's is at 1, cat's at 2; as stored, 1 is cat."""
    (tmp_path / "SegmentationClassAug").mkdir()
    palette = voc_palette().copy()
    palette[[1, 2]] = palette[[2, 1]]
    mask = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    mask.putpalette(palette.ravel().tolist())
    mask.save(tmp_path / "SegmentationClassAug" / "a.png")
    read = partial(load_labels, tmp_path, ["a"], NAMES)
    for source in ("mask", "auto"):
        assert read(source).tolist() == read(source, "auto").tolist() == [[0, 1, 0]]
        assert read(source, "ignore").tolist() == [[1, 0, 0]]
    with pytest.raises(InputError, match="--mask_values binary is for one class"):
        read("mask", "binary")
    one = partial(load_labels, tmp_path, ["w"], ["crack"], "mask")  # white is ignored, or the class
    write_mask(tmp_path, "w", [[0, 255]], mode="L")
    assert [one(values).tolist() for values in ("ignore", "binary")] == [[[0]], [[1]]]


def test_the_table_of_classes_names_what_is_hardly_ever_alone():
    labels = np.zeros((30, 3), dtype=np.float32)
    labels[:20, 0], labels[6:20, 1], labels[20:, 2] = 1, 1, 1  # riders
    labels[20, 1] = 1
    expected = ["horse           20"]
    expected += ["person          15  alone in 0: tags hardly tell it from horse"]
    expected += ["owl             10"]
    names = ("horse", "person", "owl")
    assert class_table(labels, names).splitlines()[1:] == expected
    labels[20, 2] = 0
    assert "alone in 1: tags" in class_table(labels, names)
    labels[19, 0] = 0
    assert "alone" not in class_table(labels, names)


def test_the_table_of_classes_names_what_cannot_be_learnt():
    labels = np.zeros((30, 4), dtype=np.float32)
    labels[:, 0], labels[:12, 1], labels[:3, 2] = 1, 1, 1
    assert class_table(labels, ("cat", "dog", "tv monitor", "owl")).splitlines() == [
        "class       images",
        "cat             30  all: nothing tells it from the background",
        "dog             12",
        "tv monitor       3  few: expect little of it",
        "owl              0  none: nothing is learnt of it",
    ]
    labels[:, 0] = 0
    assert class_table(labels, ("a", "b", "c", "d")).splitlines()[-1] == "(no class)      18"


def test_labels_that_cannot_be_counted_are_said_in_a_line(tmp_path, capsys):
    assert class_counts(tmp_path, IDS, NAMES) is None
    assert capsys.readouterr().out == ""
    save_labels(tmp_path / "cls_labels.npy", IDS, LABELS)
    assert class_counts(tmp_path, IDS, NAMES).tolist() == LABELS.sum(axis=0).tolist()
    capsys.readouterr()
    assert class_counts(tmp_path, [*IDS, "n0"], NAMES) is None
    assert "what the labels name is not counted: " in capsys.readouterr().out
