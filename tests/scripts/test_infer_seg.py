"""Segmentation masks through the command line: parity with the network, what the files say,
resuming, submission, photographs.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import infer_seg
from infer_seg import image_probabilities, main, parse_args, probability_mask
from network.seg import build_seg
from network.seg_weights import load_seg
from network.weights import save_network
from tests.conftest import PETS
from tests.expansions import evaluated
from tests.tool.file.test_films import write_film
from tool.errors import InputError
from tool.expand.crf import CRF_SETTINGS, marginals_to_cam
from tool.expand.seed import AGREEMENT
from tool.file.cam_file import CamFile, save_cam
from tool.file.digests import file_digest
from tool.file.films import open_film
from tool.file.images import (
    META_KEY,
    read_image,
    read_mask,
    read_mask_meta,
    write_image,
    write_mask,
)
from tool.mask_values import voc_palette
from tool.show.overlay import mask_overlay, with_inner_legend, with_legend
from tool.transforms import normalise, resize, to_tensor
from voc12.constants import CLASSES
from voc12.labels import load_labels
from voc12.lists import image_path, load_ids
from voc12.submission import SUBMISSION_DIR


def _save(path, classes):
    torch.manual_seed(0)
    config = {
        "arch": "deeplabv3plus",
        "backbone": "resnet10t",
        "num_classes": len(classes),
        "head_channels": 16,
    }
    net = build_seg(**config).eval()
    # Untrained logits hardly differ; centred and enlarged ones make masks with several classes.
    classifier = net.head.decoder[-1]
    with torch.no_grad():
        logits = net.forward_low_resolution(torch.randn(1, 3, 64, 64))
        classifier.bias -= logits.mean(dim=(0, 2, 3))
        classifier.weight *= 5 / logits.std(dim=(0, 2, 3)).view(-1, 1, 1, 1)
        classifier.bias *= 5 / logits.std(dim=(0, 2, 3))
    save_network(path, net, config | {"method": "seg"}, classes, {})
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return _save(tmp_path_factory.mktemp("weights") / "seg.pth", PETS)


def _infer(*flags):
    main(
        parse_args(
            [
                str(flag)
                for flag in [*flags, "--device", "cpu", "--num_workers", 0, "--scales", 0.75, 1]
            ]
        )
    )


@pytest.fixture(scope="module")
def masks(pets_root, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    flags = [
        "--voc12_root",
        pets_root,
        "--weights",
        weights,
        "--out_mask",
        folder / "mask",
        "--save_png",
        folder / "png",
    ]
    _infer(*flags)
    return folder / "mask"


def test_overlays_of_finished_masks_are_written(masks, pets_root, weights, tmp_path):
    _infer(
        "--voc12_root", pets_root, "--weights", weights, "--out_mask", masks, "--save_png", tmp_path
    )
    made = {path.name: path.read_bytes() for path in (masks.parent / "png").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_overlays_of_earlier_masks_are_drawn_again(masks, pets_root, weights, tmp_path):
    flags = ("--voc12_root", pets_root, "--weights", weights)
    expected = {path.name: path.read_bytes() for path in (masks.parent / "png").iterdir()}
    other = ("--out_mask", tmp_path / "mask", "--save_png", tmp_path / "png", "--crf", "none")
    _infer(*flags, *other)
    before = {path.name: path.read_bytes() for path in (tmp_path / "png").iterdir()}
    assert before.keys() == expected.keys()
    assert before != expected
    _infer(*flags, "--out_mask", masks, "--save_png", tmp_path / "png")  # finished ones
    assert {path.name: path.read_bytes() for path in (tmp_path / "png").iterdir()} == expected
    times = [path.stat().st_mtime_ns for path in (tmp_path / "png").iterdir()]
    _infer(*flags, "--out_mask", masks, "--save_png", tmp_path / "png")
    assert [path.stat().st_mtime_ns for path in (tmp_path / "png").iterdir()] == times


def test_settings_of_the_papers_are_the_defaults():
    args = parse_args([])
    assert (tuple(args.scales), args.flip, args.crf) == (
        (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        True,
        "deeplab",
    )
    crf = CRF_SETTINGS["deeplab"]
    assert (crf.iterations, crf.bilateral_sxy, crf.bilateral_srgb, crf.bilateral_compat) == (
        1,
        32,
        13,
        10,
    )
    assert (crf.gaussian_sxy, crf.gaussian_compat) == (3, 3)


def test_masks_are_the_networks_after_the_crf(masks, weights, pets_root):
    net, _, _ = load_seg(weights)
    for name in load_ids(pets_root, "val"):
        image = read_image(image_path(pets_root, name))
        size = image.shape[:2]
        scaled = [
            to_tensor(
                normalise(resize(image, *(round(side * scale) for side in size)), net.mean, net.std)
            )
            for scale in (0.75, 1)
        ]
        probabilities = image_probabilities(net, scaled, size, True, "fp32", torch.device("cpu"))
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
        expected = probability_mask(image, probabilities, CRF_SETTINGS["deeplab"])
        np.testing.assert_array_equal(read_mask(masks / f"{name}.png"), expected)
        assert len(np.unique(expected)) > 1
        overlay = np.array(Image.open(masks.parent / "png" / f"{name}_seg.png"))
        np.testing.assert_array_equal(overlay, mask_overlay(image, expected))


def test_masks_are_in_the_voc_palette_and_say_what_they_are(masks, weights, pets_root):
    name = load_ids(pets_root, "val")[0]
    with Image.open(masks / f"{name}.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:63] == voc_palette()[:21].ravel().tolist()
    meta = read_mask_meta(masks / f"{name}.png")
    assert (meta["stage"], meta["arch"], meta["backbone"], meta["scales"]) == (
        "seg_mask",
        "deeplabv3plus",
        "resnet10t",
        [0.75, 1],
    )
    assert (meta["weights"], meta["crf"]["iterations"], meta["classes"]) == (
        file_digest(weights),
        1,
        list(PETS),
    )


def test_finished_masks_are_kept_and_others_made_again(masks, weights, pets_root, tmp_path, capsys):
    folder = tmp_path / "mask"
    shutil.copytree(masks, folder)
    first, second = (folder / f"{name}.png" for name in load_ids(pets_root, "val"))
    first.write_bytes(first.read_bytes()[:100])
    before = second.stat().st_ino
    _infer("--voc12_root", pets_root, "--weights", weights, "--out_mask", folder)
    assert second.stat().st_ino == before
    np.testing.assert_array_equal(read_mask(first), read_mask(masks / first.name))
    _infer("--voc12_root", pets_root, "--weights", weights, "--out_mask", folder, "--crf", "none")
    assert second.stat().st_ino != before
    assert read_mask_meta(second)["crf"] is None


def test_a_replaced_photograph_gets_a_new_mask(masks, weights, pets_root, tmp_path):
    root, folder = shutil.copytree(pets_root, tmp_path / "data"), tmp_path / "mask"
    shutil.copytree(masks, folder)
    first, second = (folder / f"{name}.png" for name in load_ids(root, "val"))
    # of before photographs were named
    meta = read_mask_meta(second)
    del meta["photograph_digest"]
    write_mask(second, read_mask(second), meta)
    before = [path.stat().st_ino for path in (first, second)]
    for path in (first, second):
        photograph = image_path(root, path.stem)
        write_image(photograph, 255 - read_image(photograph))
    _infer("--voc12_root", root, "--weights", weights, "--out_mask", folder)
    assert [path.stat().st_ino for path in (first, second)] == [first.stat().st_ino, before[1]]
    assert first.stat().st_ino != before[0]
    meta = read_mask_meta(first)
    assert meta["photograph_digest"] == file_digest(image_path(root, first.stem))
    assert not np.array_equal(read_mask(first), read_mask(masks / first.name))


def test_another_process_gives_the_same_masks(masks, weights, pets_root, tmp_path):
    flags = [
        "--voc12_root",
        pets_root,
        "--weights",
        weights,
        "--out_mask",
        tmp_path,
        "--device",
        "cpu",
        "--scales",
        0.75,
        1,
    ]
    main(parse_args([str(flag) for flag in [*flags, "--num_workers", 1]]))
    for path in masks.iterdir():
        np.testing.assert_array_equal(read_mask(tmp_path / path.name), read_mask(path))


def test_evaluation_reads_the_masks(masks, pets_root, capsys):
    said = evaluated(pets_root, masks, "val", capsys)
    assert said.startswith("list val, 2 images, seg_mask\nno threshold\n")


def test_submission_is_what_the_server_takes(voc_root, tmp_path):
    """Exactly one palette PNG for each id of the list, in the folder of competition 6, at the
    image's size, labels 0..20, no text.
    """
    weights = _save(tmp_path / "seg.pth", CLASSES)
    flags = [
        "--voc12_root",
        voc_root,
        "--weights",
        weights,
        "--infer_list",
        "train",
        "--out_mask",
        tmp_path / "mask",
        "--crf",
        "none",
    ]
    for _ in range(2):  # again from finished masks
        _infer(*flags, "--submission", tmp_path / "upload")
        files = sorted(path for path in (tmp_path / "upload").rglob("*") if path.is_file())
        folder = tmp_path / "upload" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
        assert files == [folder / f"{name}.png" for name in sorted(load_ids(voc_root, "train"))]
        for path in files:
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == (
                    "PNG",
                    "P",
                    Image.open(image_path(voc_root, path.stem)).size,
                )
                assert image.getpalette()[:63] == voc_palette()[:21].ravel().tolist()
                assert META_KEY not in image.info
                labels = np.array(image)
            assert labels.max() <= len(CLASSES)
            np.testing.assert_array_equal(labels, read_mask(tmp_path / "mask" / path.name))
    write_mask(folder / "2012_000001.png", labels)
    with pytest.raises(
        InputError, match=r"has 1 files of other images, first 2012_000001; give another folder"
    ):
        _infer(*flags, "--submission", tmp_path / "upload")


def test_submission_needs_vocs_classes(pets_root, weights, tmp_path):
    with pytest.raises(
        InputError,
        match="--submission: the server knows VOC's 20 classes, this network was trained for cat, "
        "dog, owl",
    ):
        _infer(
            "--voc12_root",
            pets_root,
            "--weights",
            weights,
            "--out_mask",
            tmp_path,
            "--submission",
            tmp_path,
        )
    assert not (tmp_path / SUBMISSION_DIR).exists()


def test_photograph_gets_an_overlay(masks, weights, pets_root, tmp_path, capsys):
    name = load_ids(pets_root, "val")[0]
    photograph = shutil.copy(image_path(pets_root, name), tmp_path / "photo.jpg")
    _infer("--weights", weights, "--image", photograph)
    mask = read_mask(masks / f"{name}.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "photo_mask.png"), mask)
    overlay = np.array(Image.open(tmp_path / "photo_seg.png"))
    image = read_image(photograph)
    np.testing.assert_array_equal(overlay[: len(image)], mask_overlay(image, mask))
    np.testing.assert_array_equal(
        overlay, with_legend(mask_overlay(image, mask), mask, ("background", *PETS))
    )
    line = capsys.readouterr().out
    names = ("background", *PETS)
    assert all(
        f"{names[label]} {100 * (mask == label).mean():.0f} %" in line for label in np.unique(mask)
    )
    scores = json.loads((tmp_path / "photo_scores.json").read_text())
    assert {name: its["share"] for name, its in scores.items()} == {
        names[label]: round((mask == label).mean(), 4) for label in np.unique(mask)
    }
    written = ["photo.jpg", "photo_mask.png", "photo_scores.json", "photo_seg.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_a_photograph_whose_logits_are_not_finite_is_named(
    weights, pets_root, tmp_path, monkeypatch
):
    photograph = shutil.copy(image_path(pets_root, load_ids(pets_root, "val")[0]), tmp_path)
    logits = torch.full((4, 2, 2), float("nan"))
    monkeypatch.setattr(infer_seg, "merged_logits", lambda *_: logits)
    with pytest.raises(InputError, match=rf"^{photograph}: the network's output has values that"):
        _infer("--weights", weights, "--image", photograph)


def test_photographs_are_shared_among_processes(weights, pets_root, tmp_path, monkeypatch):
    photographs = [
        shutil.copy(image_path(pets_root, name), tmp_path / f"{index}.jpg")
        for index, name in enumerate(load_ids(pets_root, "val"))
    ]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    _infer("--weights", weights, "--image", *photographs)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["1_mask.png", "1_seg.png"]


def test_a_folder_gets_masks_of_full_size_in_its_tree(weights, pets_root, tmp_path, capsys):
    names = load_ids(pets_root, "val")
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    for name, target in zip(names, ("x.jpg", "sub/x.jpg"), strict=True):
        shutil.copy(image_path(pets_root, name), folder / target)
    Image.open(folder / "x.jpg").save(folder / "x.png")
    out = tmp_path / "out"
    _infer(
        "--weights",
        weights,
        "--image",
        folder,
        "--out_mask",
        out,
        "--long_side",
        40,
        "--confidence",
    )
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == sorted(
        f"{start}{end}.png"
        for start in ("x.jpg", "x.png", "sub/x")
        for end in ("", "_seg", "_confidence")
    )
    size = read_image(folder / "x.jpg").shape[:2]
    mask = read_mask(out / "x.jpg.png")
    assert mask.shape == size
    assert read_mask_meta(out / "x.jpg.png")["long_side"] == 40
    assert np.asarray(Image.open(out / "x.jpg_confidence.png")).shape == size
    assert "3 of 3 photographs are reduced to a long side of 40 pixels" in capsys.readouterr().out


def test_masks_within_the_image_labels(pets_root, weights, tmp_path):
    """As the loop says it: the most probable of background and the label's classes."""
    flags = [
        "--voc12_root",
        pets_root,
        "--weights",
        weights,
        "--infer_list",
        "val",
        "--crf",
        "none",
    ]
    _infer(*flags, "--out_mask", tmp_path / "free")
    out = tmp_path / "within"
    _infer(*flags, "--out_mask", out, "--within_labels", "auto")
    net, _, classes = load_seg(weights)
    ids = load_ids(pets_root, "val")
    changed = 0
    for name, label in zip(ids, load_labels(pets_root, ids, classes), strict=True):
        image = read_image(image_path(pets_root, name))
        size = image.shape[:2]
        scaled = [
            to_tensor(normalise(resize(image, *(round(s * f) for s in size)), net.mean, net.std))
            for f in (0.75, 1)
        ]
        scores = image_probabilities(net, scaled, size, True, "fp32", torch.device("cpu"))
        for c, hot in enumerate(label):
            if not hot:
                scores[c + 1] = -1
        expected = scores.argmax(axis=0)
        assert np.array_equal(read_mask(out / f"{name}.png"), expected)
        changed += int((expected != read_mask(tmp_path / "free" / f"{name}.png")).any())
        shown = np.flatnonzero(label).tolist()
        assert read_mask_meta(out / f"{name}.png")["within_labels"] == shown
    assert changed
    # masks of other labels are made again, those of the same are kept
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    _infer(*flags, "--out_mask", out, "--within_labels", "auto")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    _infer(*flags, "--out_mask", out)
    assert {path.stat().st_mtime_ns for path in out.iterdir()}.isdisjoint(times.values())
    with pytest.raises(InputError, match="--within_labels is for --infer_list"):
        _infer("--weights", weights, "--image", tmp_path, "--within_labels", "auto")


def test_masks_join_the_network_and_what_it_learnt_from(pets_root, weights, tmp_path, capsys):
    """The mean of the network's probabilities and a CAM file's marginals; how far both agree."""
    net, _, classes = load_seg(weights)
    ids = load_ids(pets_root, "val")
    flags = ["--voc12_root", pets_root, "--weights", weights, "--crf", "none"]
    rng = np.random.default_rng(0)
    for name in ids[1:]:
        size = read_image(image_path(pets_root, name)).shape[:2]
        marginals = rng.dirichlet((1, 1, 1), size).transpose(2, 0, 1).astype(np.float32)
        cam = marginals_to_cam(marginals)
        meta = {"stage": "seed_crf", "units": "unit", "classes": list(classes)}
        save_cam(tmp_path / "crf", CamFile(name, np.array([0, 2]), cam, size, meta))
    out = tmp_path / "joined"
    _infer(*flags, "--out_mask", out, "--cam_dir", tmp_path / "crf")
    assert f"note: 1 of {len(ids)} images have no CAM file" in capsys.readouterr().out
    _infer(*flags, "--out_mask", tmp_path / "alone")
    assert AGREEMENT not in read_mask_meta(out / f"{ids[0]}.png")
    alone = read_mask(tmp_path / f"alone/{ids[0]}.png")
    assert np.array_equal(read_mask(out / f"{ids[0]}.png"), alone)
    image = read_image(image_path(pets_root, ids[-1]))
    scaled = [
        to_tensor(normalise(resize(image, *(round(s * f) for s in size)), net.mean, net.std))
        for f in (0.75, 1)
    ]
    total = image_probabilities(net, scaled, size, True, "fp32", torch.device("cpu"))
    own = total.argmax(axis=0)
    total[[0, 1, 3]] += marginals
    assert (read_mask(out / f"{ids[-1]}.png") == total.argmax(axis=0)).mean() > 0.999
    other = np.array([0, 1, 3])[marginals.argmax(axis=0)]
    both, either = (
        [(join([own == k, other == k], axis=0)).sum() for k in range(len(classes) + 1)]
        for join in (np.all, np.any)
    )
    agreement = np.mean([b / e for b, e in zip(both, either, strict=True) if e])
    assert read_mask_meta(out / f"{ids[-1]}.png")[AGREEMENT] == pytest.approx(agreement, abs=1e-3)
    # kept while the CAM files are the same
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    save_cam(tmp_path / "crf", CamFile(ids[-1], np.array([0, 2]), cam / 2, size, meta))
    _infer(*flags, "--out_mask", out, "--cam_dir", tmp_path / "crf")
    made = {path.stem for path in out.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert made == {ids[-1]}
    save_cam(tmp_path / "crf", CamFile(ids[-1], np.array([0, 2]), cam, size, meta | {"stage": "x"}))
    with pytest.raises(InputError, match="is of stage x, seeds are of stage seed_crf"):
        _infer(*flags, "--out_mask", out, "--cam_dir", tmp_path / "crf")
    # a map of a class that the photograph's labels have not
    shown = load_labels(pets_root, ids, classes)[-1]
    wrong = np.flatnonzero(shown == 0)[:1]
    save_cam(tmp_path / "crf", CamFile(ids[-1], wrong, cam[:1], size, meta))
    with pytest.raises(InputError, match=f"has a map of class {wrong[0]} .* not among"):
        _infer(*flags, "--out_mask", out, "--cam_dir", tmp_path / "crf", "--within_labels", "auto")
    made_of = meta | {"photograph": "of another file"}
    save_cam(tmp_path / "crf", CamFile(ids[-1], np.array([0, 2]), cam, size, made_of))
    with pytest.raises(InputError, match="1 of 1 photographs have been replaced"):
        _infer(*flags, "--out_mask", out, "--cam_dir", tmp_path / "crf")
    with pytest.raises(InputError, match="--cam_dir is for --infer_list"):
        _infer("--weights", weights, "--image", tmp_path, "--cam_dir", tmp_path / "crf")


def test_a_film_becomes_an_overlaid_film(weights, tmp_path, capsys):
    folder = tmp_path / "holiday"
    folder.mkdir()
    made = write_film(folder / "a b.mov", pictures=5)
    write_image(folder / "still.png", made[0])
    _infer("--weights", weights, "--image", folder, "--long_side", 40, "--crf", "none")
    out = tmp_path / "holiday_seg"
    assert sorted(path.name for path in out.iterdir()) == [
        "a b_scores.json",
        "a b_seg.mp4",
        "still_mask.png",
        "still_scores.json",
        "still_seg.png",
    ]
    with open_film(folder / "a b.mov") as film, open_film(out / "a b_seg.mp4") as overlaid:
        assert (overlaid.size, overlaid.count) == (film.size, 5)
        times = [[float(time * one.clock) for time, _ in one.pictures] for one in (film, overlaid)]
    np.testing.assert_allclose(*times, atol=1e-3)
    # the still is the film's first picture
    mask = read_mask(out / "still_mask.png")
    names = ("background", *PETS)
    expected = with_inner_legend(mask_overlay(made[0], mask), mask, names)
    with open_film(out / "a b_seg.mp4") as overlaid:
        first = next(overlaid.pictures)[1]
    assert np.abs(first.astype(int) - expected).mean() < 12
    assert np.abs(first.astype(int) - made[0]).mean() > 20
    scores = json.loads((out / "a b_scores.json").read_text())
    assert sum(its["share"] for its in scores.values()) == pytest.approx(1, abs=1e-3)
    printed = capsys.readouterr().out
    assert "1 photographs and 1 films" in printed
    assert f"overlay: {out / 'a b_seg.mp4'}" in printed


def test_a_film_that_cannot_be_read_leaves_nothing(weights, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match=r"^cannot read film .*x\.mp4: "):
        _infer("--weights", weights, "--image", tmp_path / "x.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]
