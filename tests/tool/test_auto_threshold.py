"""The threshold without masks: both measures against loops over thresholds and pixels, and objects
that it must find.
"""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu

import evaluation_cam
import make_crf
from benchmarks import auto_threshold as auto_threshold_benchmark
from tests.seeds import write_seeds
from tool import auto_threshold
from tool.auto_threshold import THRESHOLDS, Evidence, image_evidence
from tool.errors import InputError
from tool.file.cam_file import CamFile, load_cam, save_cam
from voc12.constants import MASK_DIR
from voc12.lists import load_ids
from voc12.threshold_choice import choose_threshold


@pytest.fixture
def small(monkeypatch):
    """A photograph of 24 x 30 pixels and two maps, at the size they are looked at."""
    monkeypatch.setattr(auto_threshold, "SIDE", 30)
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8), (0, 0), 2)
    cam = cv2.GaussianBlur(rng.random((24, 30, 2), dtype=np.float32), (0, 0), 2).transpose(2, 0, 1)
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    return image, np.ascontiguousarray(cam)


def test_information_against_its_definition(small):
    image, cam = small
    found = image_evidence(image, cam).information
    colours = auto_threshold._colours(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    for index in (9, 49, 89):
        kept = (cam.max(axis=0) > THRESHOLDS[index]).ravel()
        expected = 0.0
        for side in (kept, ~kept):
            for colour in np.unique(colours):
                joint = (side & (colours == colour)).mean()
                if joint:
                    expected += joint * np.log(joint / (side.mean() * (colours == colour).mean()))
        assert found[index] == pytest.approx(expected, abs=1e-9)


def test_outline_against_loops(small):
    image, cam = small
    evidence = image_evidence(image, cam)
    gradient = auto_threshold._gradient(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    assert gradient.mean() == pytest.approx(1, rel=1e-5)
    score = cam.max(axis=0)
    for index in (9, 49, 89):
        kept = score > THRESHOLDS[index]
        total, pixels = 0.0, 0
        for y in range(24):
            for x in range(30):
                around = kept[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                if around.any() and not around.all():
                    total, pixels = total + gradient[y, x], pixels + 1
        assert evidence.outline[index] == pixels
        assert evidence.gradient[index] == pytest.approx(total)


def _flooded(contrast):
    """Evidence that flat information tells most of at 0.35, where the outline's contrast is 1; it
    is 1.25 from 0.65 on. contrast: of photographs weighed by their information
    """
    information = np.interp(THRESHOLDS, (0, 0.35, 0.6, 1), (0, 1.0, 0.9, 0))
    return Evidence(
        information=information,
        agreement=information * contrast,
        gradient=np.interp(THRESHOLDS, (0, 0.35, 0.6, 0.8, 1), (0.8, 1.0, 1.2, 1.4, 1.4)) * 100,
        outline=np.full(len(THRESHOLDS), 100.0),
        scores=np.full(len(THRESHOLDS) + 1, 10),
        images=40,
    )


def test_a_map_that_follows_edges_is_not_parted_where_its_outline_does_not():
    assert _flooded(1.3).threshold() == pytest.approx(0.65, abs=0.015)


def test_a_map_of_discs_is_parted_where_its_colours_tell():
    # a third of the way to Otsu's, the middle of even scores
    assert _flooded(1.0).threshold() == pytest.approx(0.35 + (0.5 - 0.35) / 3, abs=0.021)


def _scene(level, seed):
    """A disc of one colour on noise of another, and a map whose values are higher than level just
    inside it.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:150, :200]
    inside = (y - 75) ** 2 + (x - 90) ** 2 < 40**2
    image = np.where(inside[..., None], (200, 60, 50), (60, 120, 190)) + rng.integers(
        -20, 20, (150, 200, 3)
    )
    distance = np.hypot(y - 75, x - 90) / 40  # 1 on the outline
    cam = np.clip(level ** (distance**2), 0, 1)  # level on the outline, 1 in the middle
    return image.clip(0, 255).astype(np.uint8), cam[None].astype(np.float32)


@pytest.mark.parametrize("level", [0.3, 0.5, 0.7])
def test_finds_the_outline_of_objects(level):
    evidence = image_evidence(*_scene(level, 0)) + image_evidence(*_scene(level, 1))
    assert evidence.images == 2
    assert evidence.threshold() == pytest.approx(level, abs=0.03)


def test_evidence_adds_up(small):
    image, cam = small
    one, other = image_evidence(image, cam), image_evidence(image[::-1], cam[:, ::-1, :])
    total = one + other
    assert isinstance(total, Evidence)
    assert np.allclose(total.mean_information(), (one.information + other.information) / 2)
    assert np.allclose(one.information, other.information)  # a picture upside down has the same
    assert np.allclose(
        total.agreement, one.information * one.contrast() + other.information * other.contrast()
    )


@pytest.mark.parametrize("power", [1, 4])  # of flat maps, and of peaked ones
@pytest.mark.parametrize("share", [0.25, 0.7])  # of the pixels, over the threshold
def test_sure_thresholds_leave_a_part_of_each_side_between_them(small, power, share):
    image, cam = small
    evidence = image_evidence(image, cam**power)
    scores = cv2.resize((cam**power).max(axis=0), (30, 24)).ravel()
    threshold = float(np.quantile(scores, 1 - share))
    fg, bg = evidence.sure_thresholds(threshold)
    assert bg < threshold < fg
    over = under = sure_over = sure_under = 0
    for score in scores:
        if score > threshold:
            over, sure_over = over + 1, sure_over + (score > fg)
        else:
            under, sure_under = under + 1, sure_under + (score < bg)
    assert min(over, under) > 100
    # scores are counted in steps of 0.01
    assert sure_over == pytest.approx(over * auto_threshold.SURE_FOREGROUND, rel=0.05)
    assert sure_under == pytest.approx(under * auto_threshold.SURE_BACKGROUND, rel=0.05)


def test_a_photograph_of_one_colour_leaves_otsu():
    cam = np.random.default_rng(0).random((1, 40, 50), dtype=np.float32)
    evidence = image_evidence(np.full((40, 50, 3), 90, np.uint8), cam)
    assert np.allclose(evidence.information, 0)
    start = int(np.argmax(np.convolve(evidence.information, np.ones(5) / 5, mode="same")))
    expected = (
        THRESHOLDS[start] + (threshold_otsu(cv2.resize(cam[0], (200, 160))) - THRESHOLDS[start]) / 3
    )
    assert evidence.threshold() == pytest.approx(expected, abs=0.03)


def test_maps_of_one_value_have_no_threshold(pets_root, tmp_path):
    name = load_ids(pets_root, "train")[0]
    seed = load_cam(write_seeds(pets_root, tmp_path / "cam") / f"{name}.npz")
    save_cam(tmp_path / "dead", CamFile(name, seed.keys, np.full_like(seed.cam, -1), seed.size, {}))
    with pytest.raises(
        InputError,
        match="dead: all scores are alike, no threshold parts them; has the network learnt "
        "anything",
    ):
        choose_threshold(pets_root, [name], tmp_path / "dead")


def test_maps_that_ignore_edges_take_a_third_of_the_way_to_otsu():
    rng = np.random.default_rng(0)
    image = np.repeat(
        np.repeat(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8), 10, axis=0), 10, axis=1
    )
    cam = _scene(0.5, 0)[1]
    evidence = image_evidence(image, cam)
    information = THRESHOLDS[
        np.convolve(evidence.information, np.ones(5) / 5, mode="same").argmax()
    ]
    otsu = threshold_otsu(cam)
    assert abs(information - otsu) > 0.05
    assert evidence.threshold() == pytest.approx(information + (otsu - information) / 3, abs=0.02)


def _evidence(contrast):
    """Evidence of one photograph whose information is highest at 0.30, Otsu's threshold is 0.60,
    and contrast is highest at 0.90.

    contrast: where information is highest
    """
    information = np.exp(-(((THRESHOLDS - 0.3) / 0.3) ** 2))
    curve = contrast + 4 * (THRESHOLDS - 0.3)
    scores = np.zeros(100)
    scores[[20, 59, 60, 99]] = 1  # Otsu's is anywhere in between
    scores[40:60] = 0.5
    return Evidence(information, information * curve, curve, np.ones(99), scores, 1)


def test_edges_weigh_information_and_contrast_against_each_other():
    # With x = threshold - 0.3: exp(-(x / 0.3)^2) (1.4 - 0.3 + 4 x) is highest where 4 x^2 + 1.1 x =
    # 0.18.
    expected = 0.3 + (-1.1 + (1.1**2 + 4 * 4 * 0.18) ** 0.5) / 8
    assert _evidence(1.4).threshold() == pytest.approx(expected, abs=0.008)


def test_between_the_two_kinds_of_maps_lies_a_mean():
    edges, discs = _evidence(1.25).threshold(), _evidence(1.05).threshold()
    assert _evidence(1.5).threshold() == pytest.approx(edges, abs=0.05)
    middle = _evidence(1.15)
    of_edges = THRESHOLDS[
        auto_threshold.highest(middle.agreement - auto_threshold.OFFSET * middle.information)
    ]
    assert discs != of_edges
    assert middle.threshold() == pytest.approx((of_edges + discs) / 2, abs=0.011)


def test_no_masks_are_needed(pets_root, tmp_path):
    cams, ids = write_seeds(pets_root, tmp_path / "cam"), load_ids(pets_root, "train")
    root = shutil.copytree(
        pets_root, tmp_path / "no_masks", ignore=shutil.ignore_patterns(MASK_DIR)
    )
    assert choose_threshold(root, ids, cams) == choose_threshold(pets_root, ids, cams)


def test_scripts_take_auto(pets_root, tmp_path, capsys):
    cams = write_seeds(pets_root, tmp_path / "cam")
    ids = load_ids(pets_root, "train")
    chosen = choose_threshold(pets_root, ids, cams)
    assert chosen == choose_threshold(pets_root, ids, cams, num_workers=2)
    capsys.readouterr()  # the note that five images are few
    base = ["--voc12_root", str(pets_root), "--num_workers", "1"]
    flags = [
        *base,
        "--list",
        "train",
        "--predict_dir",
        str(cams),
        "--json",
        str(tmp_path / "auto.json"),
    ]
    evaluation_cam.main(evaluation_cam.parse_args([*flags, "--t", "auto"]))
    out = capsys.readouterr().out
    assert f"background threshold {chosen:.2f}, chosen without masks: mIoU" in out
    numbers = (tmp_path / "auto.json").read_text()
    assert f'"auto_threshold": {chosen}' in numbers
    evaluation_cam.main(evaluation_cam.parse_args([*flags, "--t", str(chosen)]))
    alone = capsys.readouterr().out.splitlines()
    assert alone[2:] == out.splitlines()[2:]  # the same table

    found = []
    for auto in (("--t", "auto"), ("--crf_threshold", "auto")):  # two ways to say the same
        evaluation_cam.main(evaluation_cam.parse_args([*flags, *auto, "--crf", "irn"]))
        found.append((capsys.readouterr().out, (tmp_path / "auto.json").read_text()))
    assert found[0] == found[1]
    assert f"{chosen:.2f}, the CRF's background score" in found[0][0]
    numbers = json.loads(found[0][1])
    assert (
        numbers["best_threshold"],
        numbers["auto_threshold"],
        numbers["crf"]["bg_threshold"],
    ) == (0.5, None, chosen)
    words = [
        *base,
        "--infer_list",
        "train",
        "--cam_dir",
        str(cams),
        "--out_cam",
        str(tmp_path / "crf"),
        "--crf_threshold",
        "auto",
    ]
    make_crf.main(make_crf.parse_args(words))
    assert load_cam(tmp_path / "crf" / f"{ids[0]}.npz").meta["bg_threshold"] == chosen


def test_walked_maps_take_the_seeds_share_of_pixels(pets_root, tmp_path, capsys):
    """Scores squared, as a walk might leave them, show at t ** 2 what the seeds show at t."""
    cams, ids = write_seeds(pets_root, tmp_path / "cam"), load_ids(pets_root, "train")
    for name in ids:
        seed = load_cam(cams / f"{name}.npz")
        save_cam(
            tmp_path / "walk",
            CamFile(seed.id, seed.keys, seed.cam**2, seed.size, {"stage": "irn_walk"}),
        )
    flags = [
        "--voc12_root",
        str(pets_root),
        "--list",
        "train",
        "--predict_dir",
        str(tmp_path / "walk"),
        "--num_workers",
        "1",
    ]
    evaluation_cam.main(evaluation_cam.parse_args([*flags, "--t", "auto", "--seed_dir", str(cams)]))
    line = next(
        line for line in capsys.readouterr().out.splitlines() if "chosen without masks" in line
    )
    found = float(re.search(r"background threshold (0\.\d+)", line)[1])
    assert found == pytest.approx(choose_threshold(pets_root, ids, cams) ** 2, abs=0.015)
    flags[flags.index(str(tmp_path / "walk"))] = str(cams)
    with pytest.raises(
        InputError,
        match="is of stage cam_refined; --seed_dir is for maps after IRN's walk, leave it out",
    ):
        evaluation_cam.main(
            evaluation_cam.parse_args([*flags, "--t", "auto", "--seed_dir", str(cams)])
        )


def test_no_class_no_threshold(pets_root, tmp_path):
    name = load_ids(pets_root, "val")[0]
    save_cam(
        tmp_path,
        CamFile(name, np.zeros(0, np.int64), np.zeros((0, 60, 80), np.float32), (60, 80), {}),
    )
    with pytest.raises(InputError, match=r"none of the 1 CAM files looked at in .* has a class"):
        choose_threshold(pets_root, [name], tmp_path)


def test_the_benchmark_sets_all_ideas_beside_the_best(pets_root, tmp_path, capsys):
    cams = write_seeds(pets_root, tmp_path / "cam")
    auto_threshold_benchmark.main(
        auto_threshold_benchmark.parse_args(
            ["--voc12_root", str(pets_root), "--list", "train", str(cams), "--parts", "2", "5"]
        )
    )
    first, *rows = capsys.readouterr().out.splitlines()
    *rows, two, _, five, _ = rows
    assert two.startswith("parts of 2, auto: mean ")
    distance = next(float(row[33:].split()[-1]) for row in rows if row.startswith("  auto "))
    # the whole list
    assert (
        five == f"parts of 5, auto: mean {-distance:.2f}, 95 of 100 under {-distance:.2f}, "
        f"{-distance:.2f} at most"
    )
    best = float(re.search(r"5 images: best (\d+\.\d+) @", first)[1])
    names = list(auto_threshold_benchmark.METHODS)
    found = {
        row[2:33].rstrip(): [float(number) for number in row[33:].split()]
        for row in rows[: len(names)]
    }
    assert list(found) == names
    assert found["auto"][0] == choose_threshold(pets_root, load_ids(pets_root, "train"), cams)
    for _threshold, miou, distance in found.values():
        assert distance == pytest.approx(miou - best, abs=0.011)
        assert distance <= 0
    assert len(rows) == 2 * len(names) + 1
