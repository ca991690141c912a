"""Segmentation masks through the command line: parity with the network, what the files say, resuming, submission, photographs."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import evaluation_cam
from infer_seg import image_probabilities, main, parse_args, probability_mask
from network.seg import build_seg
from network.seg_weights import load_seg
from network.weights import save_network
from tests.conftest import PETS
from tool.crf import CRF_SETTINGS
from tool.errors import InputError
from tool.files import file_digest
from tool.images import META_KEY, read_image, read_mask, read_mask_meta, write_mask
from tool.overlay import mask_overlay
from tool.submission import SUBMISSION_DIR
from tool.transforms import normalise, resize, to_tensor
from voc12.constants import CLASSES, voc_palette
from voc12.lists import image_path, load_ids


def _save(path, classes):
    torch.manual_seed(0)
    config = {"arch": "deeplabv3plus", "backbone": "resnet10t", "num_classes": len(classes), "head_channels": 16}
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
    main(parse_args([str(flag) for flag in [*flags, "--device", "cpu", "--num_workers", 0, "--scales", 0.75, 1]]))


@pytest.fixture(scope="module")
def masks(pets_root, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    flags = ["--voc12_root", pets_root, "--weights", weights, "--out_mask", folder / "mask", "--save_png", folder / "png"]
    _infer(*flags)
    return folder / "mask"


def test_overlays_of_finished_masks_are_written(masks, pets_root, weights, tmp_path):
    _infer("--voc12_root", pets_root, "--weights", weights, "--out_mask", masks, "--save_png", tmp_path)
    made = {path.name: path.read_bytes() for path in (masks.parent / "png").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


def test_settings_of_the_papers_are_the_defaults():
    args = parse_args([])
    assert (tuple(args.scales), args.flip, args.crf) == ((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), True, "deeplab")
    crf = CRF_SETTINGS["deeplab"]
    assert (crf.iterations, crf.bilateral_sxy, crf.bilateral_srgb, crf.bilateral_compat) == (1, 32, 13, 10)
    assert (crf.gaussian_sxy, crf.gaussian_compat) == (3, 3)


def test_masks_are_the_networks_after_the_crf(masks, weights, pets_root):
    net, _, _ = load_seg(weights)
    for name in load_ids(pets_root, "val"):
        image = read_image(image_path(pets_root, name))
        size = image.shape[:2]
        scaled = [
            to_tensor(normalise(resize(image, *(round(side * scale) for side in size)), net.mean, net.std)) for scale in (0.75, 1)
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
    assert (meta["weights"], meta["crf"]["iterations"], meta["classes"]) == (file_digest(weights), 1, list(PETS))


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


def test_another_process_gives_the_same_masks(masks, weights, pets_root, tmp_path):
    flags = ["--voc12_root", pets_root, "--weights", weights, "--out_mask", tmp_path, "--device", "cpu", "--scales", 0.75, 1]
    main(parse_args([str(flag) for flag in [*flags, "--num_workers", 1]]))
    for path in masks.iterdir():
        np.testing.assert_array_equal(read_mask(tmp_path / path.name), read_mask(path))


def test_evaluation_reads_the_masks(masks, pets_root, capsys):
    arguments = ["--voc12_root", pets_root, "--predict_dir", masks, "--type", "png", "--num_workers", 1, "--list", "val"]
    evaluation_cam.main(evaluation_cam.parse_args([str(value) for value in arguments]))
    assert capsys.readouterr().out.startswith("list val, 2 images, seg_mask\nno threshold\n")


def test_submission_is_what_the_server_takes(voc_root, tmp_path):
    """Exactly one palette PNG for each id of the list, in the folder of competition 6, at the image's size, labels 0..20, no text."""
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
                assert (image.format, image.mode, image.size) == ("PNG", "P", Image.open(image_path(voc_root, path.stem)).size)
                assert image.getpalette()[:63] == voc_palette()[:21].ravel().tolist()
                assert META_KEY not in image.info
                labels = np.array(image)
            assert labels.max() <= len(CLASSES)
            np.testing.assert_array_equal(labels, read_mask(tmp_path / "mask" / path.name))
    write_mask(folder / "2012_000001.png", labels)
    with pytest.raises(InputError, match=r"has 1 files of other images, first 2012_000001; give another folder"):
        _infer(*flags, "--submission", tmp_path / "upload")


def test_submission_needs_vocs_classes(pets_root, weights, tmp_path):
    with pytest.raises(
        InputError, match="--submission: the server knows VOC's 20 classes, this network was trained for cat, dog, owl"
    ):
        _infer("--voc12_root", pets_root, "--weights", weights, "--out_mask", tmp_path, "--submission", tmp_path)
    assert not (tmp_path / SUBMISSION_DIR).exists()


def test_photograph_gets_an_overlay(masks, weights, pets_root, tmp_path, capsys):
    name = load_ids(pets_root, "val")[0]
    photograph = shutil.copy(image_path(pets_root, name), tmp_path / "photo.jpg")
    _infer("--weights", weights, "--image", photograph)
    mask = read_mask(masks / f"{name}.png")
    overlay = np.array(Image.open(tmp_path / "photo_seg.png"))
    np.testing.assert_array_equal(overlay, mask_overlay(read_image(photograph), mask))
    line = capsys.readouterr().out
    names = ("background", *PETS)
    assert all(f"{names[label]} {100 * (mask == label).mean():.0f} %" in line for label in np.unique(mask))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.jpg", "photo_seg.png"]


def test_photographs_are_shared_among_processes(weights, pets_root, tmp_path, monkeypatch):
    photographs = [
        shutil.copy(image_path(pets_root, name), tmp_path / f"{index}.jpg")
        for index, name in enumerate(load_ids(pets_root, "val"))
    ]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    _infer("--weights", weights, "--image", *photographs)
    assert [path.name for path in tmp_path.glob("*.png")] == ["1_seg.png"]
