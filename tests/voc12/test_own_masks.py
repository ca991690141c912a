"""Masks go back to the photographs' places and sizes; real masks find their photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.file.images import read_mask, read_mask_meta, write_mask
from tool.file.photographs import find_photographs
from tool.mask_values import voc_palette
from voc12 import own_masks, own_photographs
from voc12.class_list import load_class_list
from voc12.own_masks import (
    enlarged,
    mask_places,
    match_masks,
    require_mask_places,
    write_evaluated,
)
from voc12.own_photographs import Own, photograph_ids


def test_photographs_of_one_path_but_for_the_suffix_keep_it():
    paths = {"a": "trip/x.jpg", "b": "trip/X.png", "c": "y.jpeg"}
    assert mask_places(paths) == {
        "a": Path("trip/x.jpg.png"),
        "b": Path("trip/X.png.png"),
        "c": Path("y.png"),
    }
    paths = {"a": "x.jpg", "b": "x.png", "c": "x.jpg.tif", "d": "x.png.jpg.png"}
    places = mask_places(paths)
    assert len(set(places.values())) == 4
    assert places["a"] == Path("x.jpg.png")


def test_an_enlarged_mask_keeps_its_values_and_shares():
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:15, 10:20], mask[:4, :4] = 2, 7
    large = enlarged(mask, (60, 90))
    assert large.shape == (60, 90)
    assert set(np.unique(large)) == {0, 2, 7}
    assert (large == 2).mean() == pytest.approx((mask == 2).mean(), rel=0.05)
    assert np.array_equal(enlarged(mask, (20, 30)), mask)


def own_of(folder, classes=("cat", "dog")):
    """Photographs of a folder, the first of one class, the second of another."""
    photographs = find_photographs([str(folder)], "masks")
    count = len(photographs)
    labels = np.eye(count, len(classes))
    ids = photograph_ids(photographs)
    return Own(ids, photographs, classes, labels, np.ones(count, bool), np.arange(count))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["é" * 122 + ".jpg", "é" * 122 + ".png"], "would have 252 bytes, of which 249"),
        (["a.jpg", "a.png/b.jpg"], "the mask of a.jpg would be called as the folder a.png, which"),
    ],
)
def test_masks_that_would_have_no_place_are_named(tmp_path, names, message):
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    with pytest.raises(InputError, match=message):
        require_mask_places(own_of(tmp_path / "photos"), tmp_path / "masks")


def test_masks_of_others_among_ours_are_named(tmp_path, data):
    own = own_of(tmp_path / "photos")
    write_mask(tmp_path / "masks/cat/a b.png", np.ones((2, 2)), {})  # is written over
    write_mask(tmp_path / "masks/cat/gone.png", np.ones((2, 2)), {"photograph": "cat/gone.jpg"})
    (tmp_path / "masks/notes.txt").touch()
    require_mask_places(own, tmp_path / "masks")
    write_mask(tmp_path / "masks/cat/theirs.png", np.ones((2, 2)), {})
    with pytest.raises(InputError, match=r"theirs\.png is the mask of none of the photographs"):
        require_mask_places(own, tmp_path / "masks")


@pytest.fixture
def data(tmp_path):
    for name, size in (("cat/a b.jpg", (30, 20)), ("dog/c.png", (12, 16))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", size).save(path)
    flags = ["--images", str(tmp_path / "photos"), "--out", str(tmp_path / "data")]
    own_photographs.main(own_photographs.parse_args([*flags, "--long_side", "16"]))
    return tmp_path / "data"


def test_masks_are_put_back(tmp_path, data):
    half = np.full((16, 12), 2)
    for name, size, value, agreement in (
        ("cat_a_b", (11, 16), 1, 1.0),
        ("dog_c", (16, 12), 2, 0.25),
    ):
        meta = {"stage": "x", "agreement": agreement, "photograph_digest": "of the small copy"}
        write_mask(tmp_path / f"final/{name}.png", np.full(size, value), meta)
    write_mask(tmp_path / "masks/cat/gone.png", half, {"photograph": "cat/gone.jpg"})
    write_mask(tmp_path / "masks/cat/of another script.png", half, {"stage": "x"})
    Image.new("L", (3, 3)).save(tmp_path / "masks/cat/drawn by hand.png")
    flags = ["--data_root", str(data), "--images", str(tmp_path / "photos"), "--num_workers", "1"]
    flags += ["--mask_dir", str(tmp_path / "final")]
    flags += ["--out", str(tmp_path / "masks"), "--json", str(tmp_path / "sure.json")]
    own_masks.main(own_masks.parse_args(flags))
    assert read_mask(tmp_path / "masks/cat/a b.png").shape == (20, 30)
    assert (read_mask(tmp_path / "masks/dog/c.png") == 2).all()
    meta = read_mask_meta(tmp_path / "masks/dog/c.png")
    assert meta == {"stage": "x", "agreement": 0.25, "photograph": "dog/c.png"}
    assert sorted(path.name for path in (tmp_path / "masks/cat").iterdir()) == [
        "a b.png",
        "drawn by hand.png",
        "of another script.png",
    ]
    # the worst stands first
    sure = json.loads((tmp_path / "sure.json").read_text())
    assert list(sure.items()) == [("dog_c", 0.25), ("cat_a_b", 1.0)]


def test_real_masks_find_their_photographs(tmp_path, data, capsys):
    own, others = own_of(tmp_path / "photos"), (tmp_path / "photos", tmp_path / "out")
    write_mask(tmp_path / "real/a b.png", np.ones((20, 30)), {})
    write_mask(tmp_path / "real/other.png", np.ones((20, 30)), {})
    found = match_masks(tmp_path / "real", own, *others)
    assert found.paths == {"cat_a_b": tmp_path / "real/a b.png"}
    assert (
        "masks of 1 photographs score the result, read as 1 cat, 2 dog" in capsys.readouterr().out
    )
    write_evaluated(tmp_path / "evaluated", own, found, tmp_path / "masks", data)
    assert (tmp_path / "evaluated/ImageSets/Segmentation/val.txt").read_text() == "cat_a_b\n"
    write_mask(tmp_path / "masks/cat/a b.png", np.ones((20, 30)), {})
    assert read_mask(tmp_path / "evaluated/predicted/cat_a_b.png").all()
    write_mask(tmp_path / "real/c.png", np.ones((20, 30)), {})
    with pytest.raises(InputError, match="is of size"):
        match_masks(tmp_path / "real", own, *others)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="has no mask of any of the 2 photographs"):
        match_masks(tmp_path / "none", own, *others)


def test_which_files_are_real_masks(tmp_path, data, capsys):
    own, others = own_of(tmp_path / "photos"), (tmp_path / "photos", tmp_path / "out")
    write_mask(tmp_path / "x.png", np.ones((20, 30)), {})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "x.png").rename(tmp_path / "elsewhere/a b.PNG")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "real/c.tif").touch()
    found = match_masks(tmp_path / "real", own, *others)
    assert found.paths == {"cat_a_b": tmp_path / "real/cat/a b.PNG"}
    assert "; 1 files are of no photograph, or no PNGs" in capsys.readouterr().out
    # what was made is no real mask, in a folder above either
    write_mask(tmp_path / "out/masks/dog/c.png", np.ones((16, 12)), {})
    with pytest.raises(InputError, match="has no mask of any of the 2 photographs"):
        match_masks(tmp_path / "out", own, *others)
    with pytest.raises(InputError, match=r"--masks .*out/masks is where masks are written to"):
        match_masks(tmp_path / "out/masks", own, *others)
    write_mask(tmp_path / "elsewhere/a b.jpg.png", np.ones((20, 30)), {})
    with pytest.raises(InputError, match=r"a b\.PNG and .* are both masks of .*a b\.jpg; leave"):
        match_masks(tmp_path / "elsewhere", own, *others)


@pytest.mark.parametrize(
    ("classes", "value", "message"),
    [
        (("cat", "dog"), 3, r"a b\.png: the ground truth has class value 3; 2 classes use"),
        (("cat", "dog"), 255, "no pixel of the 1 masks, .*, is of a class: all are 0"),
        (("cat", "dog"), 0, "no pixel of the 1 masks, .*, is of a class: all are 0"),
        (("cat",), 255, None),  # which is the class, where there is one
    ],
)
def test_values_of_real_masks_are_looked_at_before_all(tmp_path, data, classes, value, message):
    mask = np.zeros((20, 30))
    mask[:9] = value
    write_mask(tmp_path / "real/a b.png", mask)
    own = own_of(tmp_path / "photos", classes)
    if message is None:
        assert match_masks(tmp_path / "real", own, tmp_path / "photos", tmp_path / "out")
        return
    with pytest.raises(InputError, match=message):
        match_masks(tmp_path / "real", own, tmp_path / "photos", tmp_path / "out")


@pytest.mark.parametrize("where", ["--classes", "there", "beside"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_real_masks_go_by_the_names_of_a_labelmap(tmp_path, data, where, mode, capsys):
    """VOC's colours for other classes than VOC's order has, in an order that is not the tags'."""
    labelmap = {
        "--classes": tmp_path / "of the user.txt",
        "there": tmp_path / "real/export/labelmap.txt",
        "beside": tmp_path / "real/labelmap.txt",
    }[where]
    (tmp_path / "real/export").mkdir(parents=True)
    labelmap.write_text("background:0,0,0::\ndog:128,0,0::\nowl:0,0,128::\ncat:0,128,0::\n")
    mask = np.zeros((20, 30), np.uint8)  # in VOC's numbers: 1 is dog, 2 is cat
    mask[:5], mask[5:9], mask[9:12] = 1, 2, 255
    expected = np.array([0, 2, 1] + [255] * 253, np.uint8)[mask]
    picture = Image.fromarray(voc_palette()[mask].astype(np.uint8))
    if mode == "P":
        picture = Image.fromarray(mask)
        picture.putpalette(voc_palette().astype(np.uint8).ravel().tolist())
    picture.save(tmp_path / "real/export/a b.png")
    own = own_of(tmp_path / "photos")
    given = labelmap if where == "--classes" else None
    words = (tmp_path / "real/export", own, tmp_path / "photos", tmp_path / "out", given)
    found = match_masks(*words)
    np.testing.assert_array_equal(found.read(found.paths["cat_a_b"]), expected)
    assert "owl is none of the classes; masks that show it" in capsys.readouterr().out
    # as numbers, which the evaluation that follows reads whatever list it has
    write_evaluated(tmp_path / "evaluated", own, found, tmp_path / "masks", data)
    np.testing.assert_array_equal(
        read_mask(tmp_path / "evaluated/SegmentationClassAug/cat_a_b.png"), expected
    )
    assert load_class_list(tmp_path / "evaluated") == ("cat", "dog")
    owl = np.zeros((20, 30, 3), np.uint8)
    owl[:4] = (0, 0, 128)
    Image.fromarray(owl).save(tmp_path / "real/export/a b.png")
    with pytest.raises(InputError, match="the ground truth has class value 3; 2 classes use"):
        match_masks(*words)


def test_mask_values_are_about_real_masks(tmp_path, data):
    """What they say stays true in the evaluation that follows."""
    mask = np.zeros((20, 30), np.uint8)
    mask[:5] = 1
    palette = [(9, 9, 9), (0, 0, 0)]  # in which black is no background
    picture = Image.fromarray(mask)
    picture.putpalette(np.array(palette, np.uint8).ravel().tolist())
    (tmp_path / "real").mkdir()
    picture.save(tmp_path / "real/a b.png")
    own = own_of(tmp_path / "photos")
    words = (tmp_path / "real", own, tmp_path / "photos", tmp_path / "out", None)
    with pytest.raises(InputError, match="or give --mask_values ignore if its indices are"):
        match_masks(*words)
    found = match_masks(*words, "ignore")
    write_evaluated(tmp_path / "evaluated", own, found, tmp_path / "masks", data)
    made = tmp_path / "evaluated/SegmentationClassAug/cat_a_b.png"
    np.testing.assert_array_equal(read_mask(made), mask)
