"""Photographs with an EXIF orientation, and masks and CAM files that follow the stored pixels or
the turned ones.
"""

import shutil

import numpy as np
import pytest
from PIL import ExifTags, Image

import evaluation_cam
import infer_cam
import make_masks
import train_seg
from network.weights import save_network
from tests.conftest import PETS
from tests.seeds import write_seeds
from tool.errors import InputError
from tool.file.cam_file import load_cam
from tool.file.images import (
    PhotographHeader,
    photograph_header,
    read_image,
    read_mask,
    read_mask_meta,
    write_mask,
)
from voc12.cam_folder import open_cam_folder
from voc12.constants import IMAGE_DIR, MASK_DIR
from voc12.dataset import InferenceSet
from voc12.lists import image_path, load_ids
from voc12.orientation import require_mask_orientation, turned_photographs


def _tag(path, orientation):
    """Say in the file that its pixels, which stay as they are, are to be turned."""
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image.save(path, exif=exif, quality=95)


@pytest.fixture
def phone(pets_root, tmp_path):
    """Five training images: the first two on their side, whose masks follow the stored pixels."""
    root = shutil.copytree(pets_root, tmp_path / "phone")
    for name in load_ids(root, "train")[:2]:
        _tag(image_path(root, name), 6)
    return root


def _masks_error(root, exif, what="masks"):
    with pytest.raises(InputError) as error:
        require_mask_orientation(root, load_ids(root, "train"), root / MASK_DIR, exif, what)
    return str(error.value)


# ============ reading ============
def test_a_photograph_left_as_stored_has_the_stored_pixels(tmp_path):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    _tag(path, 6)
    np.testing.assert_array_equal(read_image(path, "ignore"), pixels)
    np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_header_gives_the_size_that_reading_gives(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    _tag(path, orientation)
    header = photograph_header(path)
    assert header == PhotographHeader((4, 6), orientation)
    for exif in ("apply", "ignore"):
        assert header.size(exif) == read_image(path, exif).shape[:2]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_is_upright(tmp_path, value):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    _tag(path, value)
    assert photograph_header(path) == PhotographHeader((4, 6), 1)
    assert read_image(path).shape == (4, 6, 3)


def test_inference_reads_photographs_as_stored(phone):
    name = load_ids(phone, "train")[0]
    paths = [image_path(phone, name)]
    sizes = {
        exif: InferenceSet([name], paths, None, [1], (0, 0, 0), (1, 1, 1), exif)[0]["size"]
        for exif in ("apply", "ignore")
    }
    assert sizes == {"apply": (80, 60), "ignore": (60, 80)}


# ============ masks ============
def test_masks_of_the_stored_pixels_are_named_with_the_flag(phone):
    name = load_ids(phone, "train")[0]
    assert list(turned_photographs(phone, load_ids(phone, "train"))) == load_ids(phone, "train")[:2]
    assert _masks_error(phone, "apply") == (
        f"{phone / MASK_DIR / name}.png is of size (60, 80), its photograph "
        f"{phone / IMAGE_DIR / name}.jpg (80, 60) (height, width) turned as its EXIF orientation 6 "
        "says; it fits as stored, so give --exif ignore (2 of 2 masks of such photographs)"
    )
    require_mask_orientation(phone, load_ids(phone, "train"), phone / MASK_DIR, "ignore")


def test_masks_of_both_kinds_are_counted(phone):
    second = load_ids(phone, "train")[1]
    path = phone / MASK_DIR / f"{second}.png"
    write_mask(path, np.rot90(read_mask(path), -1))
    assert _masks_error(phone, "apply").endswith(
        "so give --exif ignore (1 of 2 masks of such photographs); the other 1 fit as they are: "
        "mend one or the other"
    )
    assert f"{second}.png is of size (56, 72), its photograph" in _masks_error(phone, "ignore")
    assert "it fits turned as its EXIF orientation 6 says, so give --exif apply (1 of 2" in (
        _masks_error(phone, "ignore")
    )


def test_sizes_that_agree_either_way_are_noted(phone, capsys):
    ids = load_ids(phone, "train")
    for name, orientation in ((ids[0], 3), (ids[1], 1), (ids[3], 8)):  # the last is a square
        _tag(image_path(phone, name), orientation)
    require_mask_orientation(phone, ids, phone / MASK_DIR, "apply")
    assert capsys.readouterr().out.splitlines()[-1] == (
        "note: 2 photographs have an EXIF orientation and masks of the same size either way (first "
        f"{phone / IMAGE_DIR / ids[0]}.jpg, orientation 3), so that nothing tells whether these "
        "follow it; --exif apply reads the photographs turned, --exif ignore as stored"
    )


def test_photographs_without_orientation_say_nothing(pets_root, capsys):
    require_mask_orientation(pets_root, load_ids(pets_root, "train"), pets_root / MASK_DIR, "apply")
    assert capsys.readouterr().out == ""


# ============ commands ============
def _words(*words):
    return [str(word) for word in words]


def test_training_stops_before_its_first_step(phone, tmp_path):
    words = _words("--voc12_root", phone, "--train_list", "train", "--mask_dir", phone / MASK_DIR)
    words += ["--backbone", "resnet10t", "--weights", "none", "--batch_size", "2", "--val_list"]
    words += _words("none", "--results", tmp_path / "results", "--device", "cpu", "--max_iter", 1)
    words = [word.replace("--max_iter", "--max_iterations") for word in words]
    words += ["--crop_size", "32", "--arch", "deeplabv3", "--head_channels", "8"]
    words += ["--num_workers", "0"]
    with pytest.raises(InputError, match=r"so give --exif ignore \(2 of 2 training masks"):
        train_seg.main(train_seg.parse_args(words))
    assert not (tmp_path / "results").exists()
    train_seg.main(train_seg.parse_args([*words, "--exif", "ignore"]))
    assert (tmp_path / "results" / "seg" / "seg.pth").is_file()


def test_evaluation_names_exif_before_it_counts(phone, tmp_path, capsys):
    words = _words("--voc12_root", phone, "--list", "train", "--type", "png", "--num_workers", 0)
    words += _words("--predict_dir", tmp_path)
    for name in load_ids(phone, "train"):
        mask = read_mask(phone / MASK_DIR / f"{name}.png")
        write_mask(tmp_path / f"{name}.png", np.where(mask == 255, 0, mask))
    with pytest.raises(InputError, match="so give --exif ignore"):
        evaluation_cam.main(evaluation_cam.parse_args(words))
    evaluation_cam.main(evaluation_cam.parse_args([*words, "--exif", "ignore"]))
    assert "mIoU" in capsys.readouterr().out


def test_cam_files_of_another_code_that_follow_the_stored_pixels(phone, tmp_path):
    ids = load_ids(phone, "train")
    folder = write_seeds(phone, tmp_path / "cam")  # of the sizes of the masks
    for name in ids:  # the released format says nothing of itself
        cam_file = load_cam(folder / f"{name}.npz")
        (folder / f"{name}.npz").unlink()
        infer_cam.save_cam(folder, cam_file, "released")
    with pytest.raises(InputError, match=r"so give --exif ignore \(2 of 2 CAM files of such"):
        open_cam_folder(folder, "auto", phone, ids, PETS, "apply")
    assert open_cam_folder(folder, "auto", phone, ids, PETS, "ignore").exif == "ignore"


def test_how_photographs_were_read_is_recorded_and_compared(phone, small_net, tmp_path):
    weights = tmp_path / "cpn.pth"
    config = {"backbone": "resnet10t", "num_classes": len(PETS), "method": "cpn"}
    save_network(weights, small_net, config, PETS, {})
    words = _words("--voc12_root", phone, "--infer_list", "train", "--num_workers", 0)
    more = _words("--weights", weights, "--out_cam", tmp_path / "cam", "--device", "cpu")
    more += ["--scales", "1", "--exif", "ignore"]
    infer_cam.main(infer_cam.parse_args(words + more))
    name = load_ids(phone, "train")[0]
    cam_file = load_cam(tmp_path / "cam" / f"{name}.npz")
    assert (cam_file.size, cam_file.meta["exif"]) == ((60, 80), "ignore")

    words += _words("--cam_dir", tmp_path / "cam", "--out_mask", tmp_path / "mask", "--t", 0.5)
    with pytest.raises(InputError) as error:
        make_masks.main(make_masks.parse_args(words))
    assert str(error.value) == (
        f"{tmp_path / 'cam' / name}.npz was made with --exif ignore, this is --exif apply, and its "
        "photograph has an EXIF orientation; give --exif ignore, or make it again"
    )
    make_masks.main(make_masks.parse_args([*words, "--exif", "ignore"]))
    assert read_mask(tmp_path / "mask" / f"{name}.png").shape == (60, 80)
    assert read_mask_meta(tmp_path / "mask" / f"{name}.png")["exif"] == "ignore"


def test_files_from_before_the_flag_are_those_of_turned_photographs(phone, tmp_path, small_net):
    name = load_ids(phone, "train")[0]
    path = tmp_path / f"{name}.png"
    write_mask(path, np.zeros((80, 60), np.uint8), {"stage": "cam_mask"})
    with pytest.raises(InputError, match="was made with --exif apply, this is --exif ignore"):
        require_mask_orientation(phone, [name], tmp_path, "ignore")
    require_mask_orientation(phone, [name], tmp_path, "apply")
