"""Masks go back to the photographs' places and sizes; real masks find their photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.file.images import read_mask, read_mask_meta, write_mask
from tool.file.photographs import find_photographs
from voc12 import own_masks, own_photographs
from voc12.own_masks import enlarged, mask_places, match_masks, write_evaluated
from voc12.own_photographs import Own


def test_photographs_of_one_path_but_for_the_suffix_keep_it():
    paths = {"a": "trip/x.jpg", "b": "trip/X.png", "c": "y.jpeg"}
    assert mask_places(paths) == {
        "a": Path("trip/x.jpg.png"),
        "b": Path("trip/X.png.png"),
        "c": Path("y.png"),
    }


def test_an_enlarged_mask_keeps_its_values_and_shares():
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:15, 10:20], mask[:4, :4] = 2, 7
    large = enlarged(mask, (60, 90))
    assert large.shape == (60, 90)
    assert set(np.unique(large)) == {0, 2, 7}
    assert (large == 2).mean() == pytest.approx((mask == 2).mean(), rel=0.05)
    assert np.array_equal(enlarged(mask, (20, 30)), mask)


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
    photographs = find_photographs([str(tmp_path / "photos")], "masks")
    told = np.eye(2), np.ones(2, bool), np.arange(2)
    own = Own(["cat_a_b", "dog_c"], photographs, ("cat", "dog"), *told)
    write_mask(tmp_path / "real/a b.png", np.ones((20, 30)), {})
    write_mask(tmp_path / "real/other.png", np.ones((20, 30)), {})
    found = match_masks(tmp_path / "real", own)
    assert found == {"cat_a_b": tmp_path / "real/a b.png"}
    assert (
        "masks of 1 photographs score the result, read as 1 cat, 2 dog" in capsys.readouterr().out
    )
    write_evaluated(tmp_path / "evaluated", own, found, tmp_path / "masks", data)
    assert (tmp_path / "evaluated/ImageSets/Segmentation/val.txt").read_text() == "cat_a_b\n"
    write_mask(tmp_path / "masks/cat/a b.png", np.ones((20, 30)), {})
    assert read_mask(tmp_path / "evaluated/predicted/cat_a_b.png").all()
    write_mask(tmp_path / "real/c.png", np.ones((20, 30)), {})
    with pytest.raises(InputError, match="is of size"):
        match_masks(tmp_path / "real", own)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="has no mask of any of the 2 photographs"):
        match_masks(tmp_path / "none", own)
