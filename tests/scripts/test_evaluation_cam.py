"""The evaluation script through its command line, on tiny data sets in VOC layout."""

import argparse
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluation_cam
from evaluation_cam import main, parse_args
from tests.reference import PARITY
from tests.seeds import seed_of, write_seeds
from tool.bootstrap import interval, resampled_miou
from tool.errors import InputError, run_script
from tool.expand.seed import CRF_STAGE, CRF_THRESHOLD, WALK_STAGE
from tool.file.cam_file import FORMATS, OWN_FORMATS, CamFile, load_cam, save_cam
from tool.file.images import EXIF_KEY, read_mask, write_mask
from tool.file.per_image import load_per_image
from tool.mask_values import voc_palette
from tool.metrics import confusion_matrix, iou_table
from tool.run.flags import bool_flag
from voc12 import evaluation, evaluation_report
from voc12.constants import CLASSES
from voc12.evaluation import THRESHOLDS, evaluate_cams, evaluate_masks
from voc12.lists import image_path, load_ids
from voc12.threshold_choice import choose_threshold

EVAL = PARITY / "eval.npz"
NAMES = ("background", *CLASSES)


def _write_tree(root: Path, masks: dict[str, np.ndarray]) -> Path:
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(masks) + "\n")
    for name, mask in masks.items():
        write_mask(root / "SegmentationClassAug" / f"{name}.png", mask)
    return root


@pytest.fixture
def parity(tmp_path):
    """The reference images as a data set; (root, CAM files in unit scale, the reference arrays)."""
    with np.load(EVAL) as arrays:
        arrays = dict(arrays)
    count = sum(name.startswith("gt_") for name in arrays)
    root = _write_tree(
        tmp_path / "VOC2012", {f"image_{i}": arrays[f"gt_{i}"] for i in range(count)}
    )
    cam_files = [
        CamFile(
            f"image_{i}",
            arrays[f"keys_{i}"],
            arrays[f"cam_{i}"] * np.float32(2),
            arrays[f"gt_{i}"].shape,
            {"stage": "cam_refined", "classes": list(CLASSES)},
        )
        for i in range(count)
    ]
    return root, cam_files, arrays


@pytest.fixture
def small(tmp_path):
    """Two classes, cat and dog, three images of 4 x 5 pixels; (root, folder of CAM files)."""
    generator = np.random.default_rng(0)
    masks = {name: generator.choice([0, 1, 2, 255], size=(4, 5)).astype(np.uint8) for name in "abc"}
    root = _write_tree(tmp_path / "pets", masks)
    (root / "classes.txt").write_text("cat\ndog\n")
    for name in masks:
        cam = generator.random((2, 4, 5), dtype=np.float32)
        save_cam(tmp_path / "cam", CamFile(name, np.array([1, 0]), cam, (4, 5), {"stage": "cam"}))
    return root, tmp_path / "cam"


def _run(root: Path, predict_dir: Path, *flags: str) -> dict:
    """The JSON that the script writes."""
    path = predict_dir.parent / "out" / "results.json"
    arguments = [
        "--voc12_root",
        root,
        "--predict_dir",
        predict_dir,
        "--num_workers",
        "1",
        "--json",
        path,
        *flags,
    ]
    main(parse_args([str(argument) for argument in arguments]))
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def _error(root: Path, predict_dir: Path, *flags: str) -> str:
    with pytest.raises(InputError) as error:
        _run(root, predict_dir, *flags)
    return str(error.value)


# ============ the released numbers ============
@pytest.mark.parametrize("format", FORMATS)
def test_sweep_gives_the_released_numbers(parity, tmp_path, format):
    root, cam_files, arrays = parity
    for cam_file in cam_files:
        save_cam(tmp_path / "cam", cam_file, format)
    found = _run(root, tmp_path / "cam")
    assert found["absent_classes"] == "zero"
    assert found["threshold_scale"] == "unit"
    assert found["images"] == len(cam_files)
    assert found["stage"] == (
        "cam_refined" if format in OWN_FORMATS else f"unnamed ({format} files)"
    )
    curve = {point["threshold"]: point["miou"] for point in found["curve"]}
    assert list(curve) == [i / 100 for i in range(101)]
    halved = {
        round(200 * t): (miou, iou)
        for t, miou, iou in zip(arrays["thresholds"], arrays["miou"], arrays["iou"], strict=True)
    }
    compared = list(range(40, 101, 2))
    np.testing.assert_allclose(
        [curve[percent / 100] for percent in compared],
        [halved[percent][0] for percent in compared],
        atol=1e-6,
    )
    assert (
        found["best_miou"]
        == max(curve.values())
        == curve[found["best_threshold"]]
        == found["miou_zero"]
    )
    point = _run(root, tmp_path / "cam", "--t", "0.58")
    np.testing.assert_allclose(list(point["iou"].values()), halved[58][1], atol=1e-6)


def test_single_threshold_on_the_halved_scale_gives_every_released_number(parity, tmp_path):
    root, cam_files, arrays = parity
    for cam_file in cam_files:
        save_cam(tmp_path / "cam", cam_file, "released")
    for threshold, miou, iou in zip(
        arrays["thresholds"], arrays["miou"], arrays["iou"], strict=True
    ):
        found = _run(
            root,
            tmp_path / "cam",
            "--type",
            "npy",
            "--t",
            str(threshold.round(2)),
            "--t_scale",
            "halved",
        )
        assert found["best_threshold"] == pytest.approx(2 * threshold)
        assert found["best_miou"] == pytest.approx(miou, abs=1e-6)
        assert list(found["iou"]) == list(NAMES)
        np.testing.assert_allclose(list(found["iou"].values()), iou, atol=1e-6)
        assert len(found["curve"]) == 1


def test_unit_and_halved_thresholds_agree(parity, tmp_path):
    root, cam_files, _ = parity
    for cam_file in cam_files:
        save_cam(tmp_path / "cam", cam_file)
    unit = _run(root, tmp_path / "cam", "--t", "0.5")
    halved = _run(root, tmp_path / "cam", "--t", "0.25", "--t_scale", "halved")
    assert unit == halved


def test_both_means_follow_their_definition(parity, tmp_path):
    root, cam_files, _ = parity
    for cam_file in cam_files:
        save_cam(tmp_path / "cam", cam_file)
    zero, skip = (
        _run(root, tmp_path / "cam", "--t", "0.5", "--absent", absent)
        for absent in ("zero", "skip")
    )
    nowhere = zero["classes_that_occur_nowhere"]
    assert (
        nowhere
        == skip["classes_that_occur_nowhere"]
        == [name for name, iou in skip["iou"].items() if iou is None]
    )
    assert 0 < len(nowhere) < 20
    assert all(zero["iou"][name] == 0 and zero["precision"][name] is None for name in nowhere)
    occurring = [iou for iou in skip["iou"].values() if iou is not None]
    assert (
        skip["best_miou"]
        == skip["miou_skip"]
        == zero["miou_skip"]
        == pytest.approx(np.mean(occurring))
    )
    assert (
        zero["best_miou"]
        == zero["miou_zero"]
        == skip["miou_zero"]
        == pytest.approx(sum(occurring) / 21)
    )


def test_number_of_processes_changes_nothing(parity, tmp_path, monkeypatch):
    root, cam_files, _ = parity
    for cam_file in cam_files:
        save_cam(tmp_path / "cam", cam_file)
    monkeypatch.setattr(evaluation, "IMAGES_PER_TASK", 2)
    arguments = (
        [cam_file.id for cam_file in cam_files],
        tmp_path / "cam",
        root / "SegmentationClassAug",
        CLASSES,
    )
    alone, shared = (evaluate_cams(*arguments, num_workers=workers) for workers in (0, 2))
    np.testing.assert_array_equal(alone.confusion, shared.confusion)
    assert alone.stages == shared.stages == ("cam_refined",)
    assert alone.confusion.shape == (101, 21, 21)


# ============ single photographs ============
@pytest.fixture
def sizes(tmp_path):
    """Four photographs of 10 x 10 pixels, cats of 1, 4, 10 and 50 of them, found whole, half or
    twice; dogs occur nowhere; (root, folder of CAM files).
    """
    masks, cams = {}, {}
    for name, cat, found in (("a", 1, 2), ("b", 4, 4), ("c", 10, 5), ("d", 50, 50)):
        flat = np.arange(100)
        masks[name] = (flat < cat).astype(np.uint8).reshape(10, 10)
        cams[name] = np.float32([0.7 * (flat < found)]).reshape(1, 10, 10)
    root = _write_tree(tmp_path / "pets", masks)
    (root / "classes.txt").write_text("cat\ndog\n")
    for name, cam in cams.items():
        cam_file = CamFile(name, np.array([0]), cam, (10, 10), {"stage": "cam"})
        save_cam(tmp_path / "cam", cam_file)
    return root, tmp_path / "cam"


@pytest.mark.parametrize(("absent", "share"), [("skip", 1), ("zero", 2 / 3)])
def test_intervals_and_sizes_by_hand(sizes, capsys, absent, share):
    found = _run(*sizes, "--t", "0.5", "--absent", absent)
    hits = np.array([[98, 1], [96, 4], [90, 5], [50, 50]])
    unions = np.array([[99, 2], [96, 4], [95, 10], [50, 50]])
    expected = share * np.array(interval(resampled_miou(hits, unions)))
    assert found["best_interval"] == pytest.approx(expected)
    assert expected[0] < found["best_miou"] < expected[1]
    assert found["auto_interval"] is found["auto_by_size"] is None
    small, middle, large = found["best_by_size"]
    assert small | {"interval": None} == {
        "size": "under 5 %",
        "images": 2,
        "classes": 2,
        "miou": pytest.approx(50 * (194 / 195 + 5 / 6)),
        "interval": None,
    }
    assert small["interval"] == pytest.approx(interval(resampled_miou(hits[:2], unions[:2])))
    assert (middle["miou"], middle["interval"]) == (pytest.approx(50 * (90 / 95 + 0.5)), None)
    assert (large["miou"], large["images"]) == (100, 1)
    low, high = expected
    lines = capsys.readouterr().out.splitlines()
    assert f"mIoU {found['best_miou']:.2f} [{low:.2f}, {high:.2f}] over " in "\n".join(lines)
    assert lines[-1] == "[low, high]: 95 % interval over the photographs, 2000 draws of them"
    assert lines[-3:-1] == [
        f"5 to 20 %  mIoU {middle['miou']:.2f}, 1 images, 2 classes",
        "over 20 %  mIoU 100.00, 1 images, 2 classes",
    ]


@pytest.mark.parametrize("kind", ["npy", "png"])
def test_counts_of_each_photograph(small, tmp_path, kind):
    """What the file holds adds up to the numbers, at the best threshold and at auto's."""
    root, predict_dir = small
    flags = ["--per_image", tmp_path / "counts.npz", "--absent", "skip"]
    if kind == "png":
        predict_dir = tmp_path / "png"
        for name in "abc":
            mask = read_mask(root / "SegmentationClassAug" / f"{name}.png")
            write_mask(predict_dir / f"{name}.png", np.where(mask == 1, 2, mask % 255))
        flags += ["--type", "png"]
    else:
        (root / "JPEGImages").mkdir()
        for name in "abc":
            image = np.random.default_rng(0).integers(256, size=(4, 5, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        flags += ["--t", "auto"]
    numbers = _run(root, predict_dir, *flags)
    stored = load_per_image(tmp_path / "counts.npz")
    assert stored.ids == ("a", "b", "c")
    assert stored.classes == ("background", "cat", "dog")
    assert list(stored.counts) == (["best", "auto"] if kind == "npy" else ["best"])
    for name, counts in stored.counts.items():
        assert stored.thresholds[name] == numbers[f"{name}_threshold"]
        assert iou_table(counts.confusion()).miou_skip == numbers[f"{name}_miou"]
        assert counts.hits_and_unions()[1].shape == (3, 3)
        low, high = numbers[f"{name}_interval"]
        assert low < numbers[f"{name}_miou"] < high


# ============ the report ============
def _fixed(tmp_path: Path, absent_class: bool) -> tuple[Path, Path]:
    """One image of 2 x 2 pixels with known scores: at threshold 0.50 to 0.59 all is right but one
    background pixel.
    """
    root = _write_tree(tmp_path / "pets", {"a": np.array([[0, 0], [0, 1]], dtype=np.uint8)})
    (root / "classes.txt").write_text("cat\ndog\n" if absent_class else "cat\n")
    cam = np.array([[[0.1, 0.5], [0.6, 0.6]]], dtype=np.float32)
    save_cam(tmp_path / "cam", CamFile("a", np.array([0]), cam, (2, 2), {"stage": "cam"}), "npz")
    return root, tmp_path / "cam"


def test_report_when_every_class_occurs(tmp_path, capsys):
    found = _run(*_fixed(tmp_path, absent_class=False))
    assert found["best_threshold"] == 0.5
    assert found["best_miou"] == pytest.approx((200 / 3 + 50) / 2)
    assert capsys.readouterr().out == (
        "list train, 1 images, cam\n"
        "best background threshold 0.50 of 0.00..1.00, unit scale (the released halved scale: "
        "0.250)\n"
        "percent         IoU  precision   recall\n"
        "background    66.67     100.00    66.67\n"
        "cat           50.00      50.00   100.00\n"
        "mIoU 58.33 over all 2 classes\n"
        "by the objects' share of the photograph, over the classes that occur there:\n"
        "over 20 %  mIoU 58.33, 1 images, 2 classes\n"
    )


def test_report_when_a_class_occurs_nowhere(tmp_path, capsys):
    root, predict_dir = _fixed(tmp_path, absent_class=True)
    _run(root, predict_dir, "--t", "0.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "background threshold 0.50, unit scale (the released halved scale: 0.250)",
        "percent         IoU  precision   recall",
        "background    66.67     100.00    66.67",
        "cat           50.00      50.00   100.00",
        "dog               -          -        -",
        "mIoU 38.89 over all 3 classes, 1 of them counted as 0 because they occur nowhere (as the "
        "released code)",
        "otherwise (--absent skip): mIoU 58.33 over the 2 classes that occur",
        "in neither prediction nor ground truth: dog",
        "by the objects' share of the photograph, over the classes that occur there:",
        "over 20 %  mIoU 58.33, 1 images, 2 classes",
    ]
    _run(root, predict_dir, "--t", "0.5", "--absent", "skip")
    lines = capsys.readouterr().out.splitlines()
    assert lines[6].startswith("mIoU 58.33 over the 2 classes that occur")
    assert lines[7].startswith(
        "otherwise (--absent zero): mIoU 38.89 over all 3 classes, 1 of them counted as 0"
    )


def test_classes_come_from_the_data_set_or_the_flag(small, tmp_path):
    root, predict_dir = small
    assert list(_run(root, predict_dir)["iou"]) == ["background", "cat", "dog"]
    (tmp_path / "names.txt").write_text("Katze\nHund\nMaus\n")
    assert list(_run(root, predict_dir, "--classes", str(tmp_path / "names.txt"))["iou"]) == [
        "background",
        "Katze",
        "Hund",
        "Maus",
    ]
    (root / "classes.txt").unlink()
    assert list(_run(root, predict_dir)["iou"]) == list(NAMES)


def test_every_path_can_be_given_alone(small, tmp_path):
    """As with the released script: --list and --gt_dir, and no data set folder."""
    root, predict_dir = small
    (tmp_path / "ids.txt").write_text("b\n")
    masks = (root / "SegmentationClassAug").rename(tmp_path / "masks")
    flags = (
        "--list",
        str(tmp_path / "ids.txt"),
        "--gt_dir",
        str(masks),
        "--classes",
        str(root / "classes.txt"),
    )
    found = _run(tmp_path / "nowhere", predict_dir, *flags)
    assert (found["images"], found["list"]) == (1, "ids")


def test_log_file_is_appended_to(small, tmp_path, monkeypatch, capsys):
    root, predict_dir = small
    log = tmp_path / "logs" / "eval.txt"
    for comment in ("first", "second"):
        _run(root, predict_dir, "--logfile", str(log), "--comment", comment)
    text = log.read_text()
    assert [line.split("\t")[1] for line in text.splitlines() if "\t" in line] == [
        "first",
        "second",
    ]
    assert text.count(capsys.readouterr().out.split("list train")[1]) == 2
    monkeypatch.chdir(tmp_path)
    _run(root, predict_dir, "--comment", "third")
    assert "\tthird\n" in (tmp_path / "evallog.txt").read_text()


def test_curve_is_drawn(small, capsys):
    root, predict_dir = small
    # as released: --curve sweeps whatever --t is
    found = _run(root, predict_dir, "--curve", "--t", "0.3")
    assert len(found["curve"]) == 101
    path = predict_dir.parent / "cam_curve.png"
    assert f"curve: {path}\n" in capsys.readouterr().out
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
    path.unlink()
    other = predict_dir.parent / "figures" / "curve.png"
    _run(root, predict_dir, "--curve_png", str(other))
    assert other.is_file()
    assert not path.exists()


def test_after_a_crf_the_curve_is_drawn_and_what_it_decided_is_said(small):
    root, predict_dir = small
    for path in predict_dir.iterdir():
        cam = load_cam(path)
        save_cam(predict_dir, replace(cam, meta=cam.meta | {"stage": CRF_STAGE}))
    found = _run(root, predict_dir)
    assert found["best_threshold"] == CRF_THRESHOLD
    drawn = _run(root, predict_dir, "--curve")
    assert len(drawn.pop("curve")) == len(THRESHOLDS)
    assert len(found.pop("curve")) == 1
    assert drawn == found
    assert (predict_dir.parent / "cam_curve.png").is_file()


@pytest.mark.parametrize("t", ["0.5", "0.7"])
def test_a_unit_threshold_on_the_halved_scale_is_noted(small, capsys, t):
    _run(*small, "--t", t, "--t_scale", "halved")
    said = "note: --t 0.7 is over 0.5, the highest value of halved maps, so all is background"
    assert (said in capsys.readouterr().out) == (t == "0.7")


def test_curve_shows_both_means_and_the_best(tmp_path, monkeypatch):
    root, predict_dir = _fixed(tmp_path, absent_class=True)
    drawn = {}
    monkeypatch.setattr(
        evaluation_report,
        "plot_threshold_curve",
        lambda *arguments: drawn.update(enumerate(arguments)),
    )
    found = _run(root, predict_dir, "--curve", "--absent", "skip")
    path, thresholds, curves, best, title = drawn.values()
    assert thresholds == THRESHOLDS
    assert thresholds[best] == found["best_threshold"]
    assert list(curves) == ["mIoU over the classes that occur", "mIoU over all 3 classes"]
    np.testing.assert_allclose(
        curves["mIoU over the classes that occur"], [point["miou"] for point in found["curve"]]
    )
    assert title == "train, cam, 1 images"
    assert path == predict_dir.parent / "cam_curve.png"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], False),
        (["--curve"], True),
        (["--curve", "true"], True),
        (["--curve", "False"], False),
        (["--curve", "0"], False),
        (["--curve", "--t", "0.3"], True),
        (["--curve_png", "a.png"], True),
    ],
)
def test_curve_flag(flags, expected):
    assert parse_args(flags).curve is expected


def test_bool_flag():
    assert [bool_flag(text) for text in ("true", "True", "1", "yes", "on", " TRUE ")] == [True] * 6
    assert [bool_flag(text) for text in ("false", "False", "0", "no", "off")] == [False] * 5
    for text in ("", "2", "maybe"):
        with pytest.raises(
            argparse.ArgumentTypeError, match=f"expected true or false, got '{text}'"
        ):
            bool_flag(text)


# ============ label maps ============
def test_label_maps(small, tmp_path):
    root, _ = small
    generator = np.random.default_rng(1)
    expected = np.zeros((3, 3), dtype=np.int64)
    for path in sorted((root / "SegmentationClassAug").glob("*.png")):
        prediction = generator.integers(0, 3, (4, 5)).astype(np.uint8)
        write_mask(tmp_path / "labels" / path.name, prediction)
        with Image.open(path) as mask:
            expected += confusion_matrix(prediction, np.array(mask), 3)
    found = _run(root, tmp_path / "labels", "--type", "png")
    scores = iou_table(expected)
    assert found["best_miou"] == pytest.approx(float(scores.miou_zero))
    np.testing.assert_allclose(list(found["iou"].values()), scores.iou)
    assert (found["best_threshold"], found["curve"], found["stage"]) == (None, [], None)
    evaluation = evaluate_masks(
        list("abc"), tmp_path / "labels", root / "SegmentationClassAug", ("cat", "dog")
    )
    np.testing.assert_array_equal(evaluation.confusion[0], expected)


def test_perfect_label_maps(small):
    root, _ = small
    for path in (root / "SegmentationClassAug").glob("*.png"):
        with Image.open(path) as mask:
            write_mask(root / "labels" / path.name, np.where(np.array(mask) == 255, 1, mask))
    assert _run(root, root / "labels", "--type", "png")["best_miou"] == 100


def test_unsure_pixels_in_label_maps_are_refused(small):
    root, _ = small
    masks = root / "SegmentationClassAug"
    message = _error(root, masks, "--type", "png")
    assert message.startswith(
        f"3 of 3 images cannot be evaluated: {masks / 'a.png'} against {masks / 'a.png'}: "
    )
    assert "the prediction has class value 255; 2 classes use values 1..2" in message


def test_thresholds_make_no_sense_for_label_maps(small):
    root, predict_dir = small
    for flags in (["--curve"], ["--t", "0.3"], ["--curve_png", "a.png"]):
        assert _error(root, predict_dir, "--type", "png", *flags) == (
            "--curve, --curve_png, --t and --crf need CAM files (--type npy); label maps have no "
            "threshold"
        )


# ============ wrong input ============
def test_missing_files_are_counted_and_ten_are_named(tmp_path):
    names = [f"image_{i:02d}" for i in range(14)]
    root = _write_tree(
        tmp_path / "VOC2012", {name: np.zeros((2, 2), dtype=np.uint8) for name in names}
    )
    (tmp_path / "cam").mkdir()
    assert _error(root, tmp_path / "cam") == (
        f"14 of 14 CAM files are not in {tmp_path / 'cam'}: {', '.join(names[:10])}, and 4 more; "
        "run infer_cam.py for them, or check --predict_dir (label maps need --type png)"
    )
    cam = np.zeros((0, 2, 2), dtype=np.float32)
    for name in names:
        save_cam(tmp_path / "cam", CamFile(name, np.zeros(0, dtype=np.int64), cam, (2, 2), {}))
    (root / "SegmentationClassAug" / "image_03.png").unlink()
    assert _error(root, tmp_path / "cam") == (
        f"1 of 14 masks are not in {root / 'SegmentationClassAug'}: image_03; check --gt_dir and "
        "--list"
    )
    assert _error(root, tmp_path / "none").startswith(
        f"folder of CAM files not found: {tmp_path / 'none'}; run infer_cam.py"
    )
    assert _error(root, tmp_path / "cam", "--type", "png").endswith(
        "check --predict_dir (CAM files need --type npy)"
    )
    assert _error(tmp_path / "none", tmp_path / "cam").startswith(
        f"--voc12_root not found: {tmp_path / 'none'}; "
    )


@pytest.mark.parametrize("name", ["a.PNG", "a.tif"])
def test_masks_under_another_suffix_are_said(small, name):
    root, cams = small
    masks = root / "SegmentationClassAug"
    (masks / "a.png").rename(masks / name)
    said = f"a; masks are read as <id>.png, in small letters, and {name} is there; check --"
    assert said in _error(root, cams)
    assert f"1 of 3 label maps are not in {masks}: {said}" in _error(
        root, masks, "--type", "png", "--gt_dir", str(masks)
    )
    for other in "bc":
        (masks / f"{other}.png").unlink()
    with pytest.raises(InputError, match=rf"has a mask in .*, and {name} is there; give --gt_dir"):
        _run(root, cams, "--t", "auto", "--curve")


def test_failing_images_are_counted_and_ten_are_named(tmp_path):
    names = [f"image_{i:02d}" for i in range(14)]
    root = _write_tree(
        tmp_path / "VOC2012", {name: np.zeros((2, 3), dtype=np.uint8) for name in names}
    )
    cam = np.zeros((1, 3, 2), dtype=np.float32)
    for name in names:
        save_cam(tmp_path / "cam", CamFile(name, np.array([0]), cam, (3, 2), {}))
    message = _error(root, tmp_path / "cam")
    first = (
        f"{tmp_path / 'cam' / 'image_00.npz'} against "
        f"{root / 'SegmentationClassAug' / 'image_00.png'}: "
    )
    assert message.startswith(
        f"14 of 14 images cannot be evaluated: {first}the prediction's size (3, 2) differs from"
    )
    assert "image_09.npz" in message
    assert "image_10.npz" not in message
    assert message.endswith("; and 4 more")


def test_damaged_and_odd_files_are_named(small):
    root, predict_dir = small
    (predict_dir / "a.npz").write_bytes(b"PK\x03\x04nothing")
    Image.fromarray(np.full((4, 5, 3), 9, dtype=np.uint8)).save(
        root / "SegmentationClassAug" / "b.png"
    )
    write_mask(root / "SegmentationClassAug" / "c.png", np.full((4, 5), 3, dtype=np.uint8))
    message = _error(root, predict_dir)
    assert message.startswith(
        f"3 of 3 images cannot be evaluated: {predict_dir / 'a.npz'} is damaged"
    )
    assert (
        f"mask {root / 'SegmentationClassAug' / 'b.png'} has the colour (9, 9, 9), none of VOC's "
        "for 2 classes and none of the class list; name the colours in a labelmap.txt" in message
    )
    assert (
        f"{root / 'SegmentationClassAug' / 'c.png'}: the ground truth has class value 3; 2 classes "
        "use values 1..2" in message
    )


def test_cams_of_other_classes_are_refused(small):
    root, predict_dir = small
    save_cam(
        predict_dir,
        CamFile(
            "b",
            np.array([0]),
            np.zeros((1, 4, 5), dtype=np.float32),
            (4, 5),
            {"classes": ["dog", "cat"]},
        ),
    )
    message = _error(root, predict_dir)
    assert message.startswith("1 of 3 images cannot be evaluated")
    assert message.endswith(
        "the CAM was made for other classes than cat, dog; check --voc12_root and the class list"
    )


def test_masks_without_any_class_are_refused(tmp_path):
    root = _write_tree(tmp_path / "VOC2012", {"a": np.full((2, 2), 255, dtype=np.uint8)})
    save_cam(
        tmp_path / "cam",
        CamFile("a", np.array([0]), np.zeros((1, 2, 2), dtype=np.float32), (2, 2), {}),
    )
    assert (
        _error(root, tmp_path / "cam")
        == "nothing to evaluate: no pixel of the 1 masks has a class, all are 255"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--crf_threshold 0.9", "--crf_threshold goes with --crf, which is not given"),
        ("--crf_alpha 2", "--crf_alpha goes with --crf, which is not given"),
        ("--crf_on labels", "--crf_on goes with --crf, which is not given"),
        ("--crf_set iterations=1", "--crf_set goes with --crf, which is not given"),
        ("--type png --crf_threshold auto", "--crf_threshold goes with --crf, which is not given"),
        (
            "--t_scale halved",
            "--t_scale halved says what a number in --t refers to, and there is none",
        ),
        (
            "--t auto --t_scale halved",
            "--t_scale halved says what a number in --t refers to, and there is none",
        ),
        ("--t 0.5 --seed_dir seeds", "--seed_dir goes with --t auto"),
        (
            "--crf irn --crf_set iterations=1.5",
            "the dense CRF cannot have iterations 1.5, only whole ones",
        ),
    ],
)
def test_flags_without_effect_are_refused(small, flags, message):
    assert _error(*small, *flags.split()) == message


def test_a_folder_is_no_file_to_write(small, tmp_path):
    assert (
        _error(*small, "--curve_png", str(tmp_path))
        == f"--curve_png {tmp_path} is a folder; give the name of a file"
    )


@pytest.mark.parametrize("threshold", ["-0.1", "1.5", "46", "nan"])
def test_thresholds_out_of_range_are_refused(threshold, capsys):
    with pytest.raises(SystemExit):
        parse_args([f"--t={threshold}"])
    assert (
        f"argument --t: expected a number in 0..1 or auto, got '{threshold}'"
        in capsys.readouterr().err
    )


def test_a_failed_run_leaves_no_output_and_prints_one_line(small, capsys):
    root, predict_dir = small
    (predict_dir / "a.npz").unlink()
    output = predict_dir.parent / "results.json"
    arguments = [
        f"--voc12_root={root}",
        f"--predict_dir={predict_dir}",
        f"--json={output}",
        "--curve",
    ]
    with pytest.raises(SystemExit) as stopped:
        run_script(main, lambda: parse_args(arguments))
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()
    assert not (predict_dir.parent / "cam_curve.png").exists()


@pytest.mark.parametrize("cam_format", ["npz", "released"])
def test_images_without_classes_count_as_background(tmp_path, cam_format):
    root = _write_tree(
        tmp_path / "VOC2012", {name: np.zeros((2, 3), dtype=np.uint8) for name in "ab"}
    )
    write_mask(root / "SegmentationClassAug" / "b.png", np.array([[0, 0, 0], [0, 0, 1]]))
    nothing = np.zeros(0, dtype=np.int64)
    for name in "ab":
        cam_file = CamFile(name, nothing, np.zeros((0, 2, 3), dtype=np.float32), (2, 3), {})
        save_cam(tmp_path / "cam", cam_file, cam_format)
    found = _run(root, tmp_path / "cam", "--absent", "skip")
    seen = {"background": pytest.approx(100 * 11 / 12), NAMES[1]: 0}
    assert found["iou"] == {name: seen.get(name) for name in NAMES}
    assert found["best_miou"] == pytest.approx(50 * 11 / 12)
    assert found["stage"] == f"unnamed ({cam_format} files)"


# ============ masks of other tools ============
CRACK = np.pad(np.ones((4, 5), dtype=np.uint8), 3)


def _crack_tree(root: Path, write) -> Path:
    """Four images of one class; write(path, object (H, W)) saves a mask."""
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("crack\n")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    for name in "ab":
        write(root / "SegmentationClassAug" / f"{name}.png", CRACK)
        Image.new("RGB", CRACK.shape[::-1]).save(root / "JPEGImages" / f"{name}.jpg")
        for kind, cam in (("perfect", CRACK), ("empty", CRACK * 0)):
            maps = cam[None].astype(np.float32)
            cam_file = CamFile(name, np.array([0]), maps, CRACK.shape, {})
            save_cam(root / kind, cam_file)
    return root


def _white(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask * 255).save(path)


def test_black_and_white_masks_of_one_class_are_counted(tmp_path, capsys):
    root = _crack_tree(tmp_path / "crack", _white)
    assert _run(root, root / "perfect")["best_miou"] == 100
    said = f"{root / 'SegmentationClassAug'}: 0 and 255 alone: 255 is read as crack; give"
    assert said in capsys.readouterr().out
    assert _run(root, root / "empty")["iou"]["crack"] == 0
    assert _run(root, root / "perfect", "--mask_values", "binary")["best_miou"] == 100


def test_an_evaluation_that_counts_no_object_is_an_error(tmp_path):
    root = _crack_tree(tmp_path / "crack", _white)
    share = 100 * CRACK.mean()
    with pytest.raises(InputError) as error:
        _run(root, root / "perfect", "--mask_values", "ignore")
    assert str(error.value) == (
        f"nothing to evaluate: no pixel of the 2 masks is of a class, {share:.0f} % are 255 and "
        "the others background; check --gt_dir and the class list; where 255 is the class, "
        "--mask_values binary says so"
    )


def test_black_and_white_predictions_of_one_class_are_counted(tmp_path):
    root = _crack_tree(tmp_path / "crack", _white)
    found = _run(root, root / "SegmentationClassAug", "--type", "png")
    assert found["iou"] == {"background": 100, "crack": 100}


def test_a_class_of_the_labels_that_no_mask_shows_is_noted(tmp_path, capsys):
    root = _crack_tree(tmp_path / "crack", write_mask)
    (root / "classes.txt").write_text("crack\nhole\n")
    for name in "ab":
        maps = np.stack([CRACK, CRACK * 0]).astype(np.float32)
        save_cam(root / "two", CamFile(name, np.array([0, 1]), maps, CRACK.shape, {}))
    note = "hole: in the labels of 2 images, in no mask; do the masks use the class list's numbers?"
    assert _run(root, root / "two")["notes"] == [note]
    assert f"note: {note}\n" in capsys.readouterr().out


def test_masks_that_are_nearly_all_255_are_noted(tmp_path):
    def sparse(path: Path, mask: np.ndarray) -> None:
        mask = np.full_like(mask, 255)
        mask[0, :2] = (0, 1)
        write_mask(path, mask)

    root = _crack_tree(tmp_path / "crack", sparse)
    notes = _run(root, root / "perfect")["notes"]
    assert notes == [
        "98 % of the masks' pixels are 255 and count for nothing; is it the class? --mask_values "
        "binary says so"
    ]


def test_colours_of_a_labelmap_are_the_masks(tmp_path):
    def coloured(path: Path, mask: np.ndarray) -> None:
        Image.fromarray(np.array([(0, 0, 0), (250, 50, 83)], np.uint8)[mask]).save(path)

    root = _crack_tree(tmp_path / "crack", coloured)
    with pytest.raises(InputError, match=re.escape("has the colour (250, 50, 83), none of VOC's")):
        _run(root, root / "perfect")
    (root / "classes.txt").unlink()
    (root / "labelmap.txt").write_text("background:0,0,0::\ncrack:250,50,83::\n")
    assert _run(root, root / "perfect")["best_miou"] == 100


@pytest.mark.parametrize("where", ["data set", "beside classes.txt", "--classes", "of the root"])
def test_colours_of_the_class_list_are_the_label_maps_too(tmp_path, where):
    """VOC's in another order, in the palette of one folder and the RGB of another; our own masks
    are read by number.
    """
    mask = np.array([[0, 1, 1], [0, 2, 3]], dtype=np.uint8)
    palette = voc_palette()[[0, 2, 3, 1]]  # of the values
    root = _write_tree(tmp_path / "pets", {"a": mask})
    (root / "classes.txt").write_text("cat\ndog\nowl\n")
    labelmap = tmp_path / "labelmap.txt" if where == "--classes" else root / "labelmap.txt"
    lines = [
        f"{name}:{','.join(map(str, colour))}::\n"
        for name, colour in zip(("cat", "dog", "owl"), palette[1:].tolist(), strict=True)
    ]
    labelmap.write_text("".join(lines))
    flags = ["--type", "png"]
    if where == "--classes":
        flags += ["--classes", labelmap]
    elif where != "beside classes.txt":
        (root / "classes.txt").rename(tmp_path / "plain.txt")
    if where == "beside classes.txt":  # by name, not by its order
        labelmap.write_text("background:0,0,0::\n" + "".join(reversed(lines)))
    elif where == "of the root":
        flags += ["--classes", tmp_path / "plain.txt"]
    for folder, picture in (
        ("SegmentationClassAug", Image.fromarray(np.array([0, 2, 3, 1], np.uint8)[mask])),
        ("rgb", Image.fromarray(palette[mask].astype(np.uint8))),
    ):
        if picture.mode == "L":
            picture.putpalette(voc_palette().astype(np.uint8).ravel().tolist())
        (root / folder).mkdir(exist_ok=True)
        picture.save(root / folder / "a.png")
        assert _run(root, root / folder, *flags, "--absent", "skip")["best_miou"] == 100
    write_mask(root / "own" / "a.png", mask, {"stage": "irn_mask"})
    assert _run(root, root / "own", *flags, "--absent", "skip")["best_miou"] == 100


@pytest.mark.parametrize("head", ["_background_", "__ignore__\n_background_", "__background__"])
def test_a_class_list_with_a_background_line_shifts_no_class(tmp_path, head):
    root = _crack_tree(tmp_path / "crack", write_mask)
    (root / "classes.txt").write_text(f"{head}\ncrack\n")
    assert _run(root, root / "perfect")["iou"] == {"background": 100, "crack": 100}


def test_vocs_own_masks_are_the_ground_truth_where_there_are_no_others(tmp_path):
    root = _crack_tree(tmp_path / "crack", write_mask)
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    assert _run(root, root / "perfect")["best_miou"] == 100


def test_auto_without_masks_gives_the_threshold_alone(pets_root, tmp_path, capsys):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    shutil.rmtree(root / "SegmentationClassAug")
    write_seeds(pets_root, tmp_path / "cam", lists=("train",))
    log = tmp_path / "log.txt"
    found = _run(root, tmp_path / "cam", "--t", "auto", "--logfile", str(log))
    auto = choose_threshold(root, load_ids(root, "train"), tmp_path / "cam")
    assert found == {
        "list": "train",
        "images": 5,
        "threshold_scale": "unit",
        "auto_threshold": auto,
    }
    out = capsys.readouterr().out
    assert f"threshold chosen without masks: {auto:.2f} (unit scale)\n" in out
    assert f"no evaluation: no image of train has a mask in {root / 'SegmentationClassAug'}" in out
    assert "\n".join(out.splitlines()[-2:]) in log.read_text()
    with pytest.raises(InputError, match="--crf, --curve and --per_image evaluate, and no image"):
        _run(root, tmp_path / "cam", "--t", "auto", "--per_image", str(tmp_path / "counts.npz"))


def test_seeds_of_a_walk_may_be_of_another_code(pets_root, tmp_path):
    write_seeds(pets_root, tmp_path / "cam", lists=("train",))
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "cam").iterdir():
        seed = load_cam(path)
        save_cam(tmp_path / "walk", replace(seed, meta=seed.meta | {"stage": WALK_STAGE}))
        maps = dict(zip(seed.keys.tolist(), seed.cam, strict=True))
        np.save(tmp_path / "other" / f"{seed.id}.npy", maps, allow_pickle=True)
    own, other = (
        _run(pets_root, tmp_path / "walk", "--t", "auto", "--seed_dir", str(tmp_path / name))
        for name in ("cam", "other")
    )
    assert own["auto_threshold"] == other["auto_threshold"]


def test_the_threshold_alone_reads_photographs_as_exif_says(pets_root, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    shutil.rmtree(root / "SegmentationClassAug")
    for name in load_ids(root, "train"):
        seed = seed_of(pets_root, name)
        save_cam(tmp_path / "cam", replace(seed, meta=seed.meta | {EXIF_KEY: "ignore"}))
    with Image.open(image_path(root, name)) as image:
        tags = image.getexif()
        tags[0x0112] = 6  # on its side
        assert image.width != image.height
        image.save(image_path(root, name), exif=tags, quality=95)
    with pytest.raises(InputError, match="was made with --exif ignore, this is --exif apply"):
        _run(root, tmp_path / "cam", "--t", "auto")
    assert "auto_threshold" in _run(root, tmp_path / "cam", "--t", "auto", "--exif", "ignore")


def test_some_missing_masks_are_said_before_auto_goes_through_the_photographs(
    pets_root, tmp_path, monkeypatch
):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    name = load_ids(root, "train")[0]
    (root / "SegmentationClassAug" / f"{name}.png").unlink()
    write_seeds(pets_root, tmp_path / "cam", lists=("train",))
    monkeypatch.setattr(evaluation_cam, "choose_threshold", None)
    with pytest.raises(InputError, match=f"^1 of 5 masks are not in .*: {name}; check --gt_dir"):
        _run(root, tmp_path / "cam", "--t", "auto")
