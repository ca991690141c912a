"""AffinityNet's pseudo masks through the command line: parity with the released walk, what the
files say, resuming, refusals.
"""

import numpy as np
import pytest
import torch

from infer_aff import chosen_walk, main, parse_args
from network.aff import build_affinity_net
from network.expansion_inference import WALKS as PRESETS
from network.expansion_inference import Walk, image_affinity, image_mask
from network.expansion_weights import load_affinity_net
from network.weights import save_network
from tests.conftest import PETS
from tests.expansions import (
    assert_background,
    assert_half_precision_masks,
    assert_made_of_the_entry,
    evaluated,
    expand_flags,
    write_empty_seed,
)
from tests.reference import load_arrays
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.crf import threshold_alpha
from tool.file.images import read_image, read_mask, read_mask_meta
from tool.transforms import normalise, to_tensor
from voc12.lists import image_path, load_ids
from voc12.threshold_choice import choose_threshold


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of an untrained AffinityNet, as train_aff.py writes them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "aff.pth"
    save_network(
        path,
        build_affinity_net("resnet10t"),
        {"method": "aff", "backbone": "resnet10t", "preset": "psa"},
        PETS,
        {},
    )
    return path


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


def _infer(root, weights, cam_dir, out, *flags):
    main(parse_args(expand_flags(root, weights, cam_dir, out, *flags)))
    return out


@pytest.fixture(scope="module")
def masks(pets_root, weights, cam_dir, tmp_path_factory):
    return _infer(pets_root, weights, cam_dir, tmp_path_factory.mktemp("masks") / "mask")


def test_presets():
    assert PRESETS["seam"] == Walk(alpha=6, beta=8, logt=6)
    assert PRESETS["psa"] == Walk(alpha=16, beta=8, logt=8)
    assert chosen_walk(parse_args([]), None) == PRESETS["seam"]
    assert chosen_walk(parse_args([]), "psa") == PRESETS["psa"]
    assert chosen_walk(parse_args(["--preset", "seam", "--logt", "0"]), "psa") == Walk(
        alpha=6, beta=8, logt=0
    )


def test_released_affinity_gives_the_released_mask():
    arrays = load_arrays("stages/aff_net")
    cam, keys, affinity = (torch.from_numpy(arrays[name]) for name in ("cam", "keys", "affinity"))
    label = image_mask(cam, keys, affinity, PRESETS["seam"]).numpy()
    top = np.sort(arrays["walked_up"], axis=0)[:, : label.shape[0], : label.shape[1]]
    sure = top[-1] - top[-2] > 1e-4
    assert sure.mean() > 0.98
    np.testing.assert_array_equal(label[sure], arrays["pred"][sure])


def test_masks_are_the_walk_of_the_seeds(masks, weights, pets_root):
    net, config = load_affinity_net(weights)
    assert config["preset"] == "psa"
    for name in load_ids(pets_root, "train")[:2]:
        seed = seed_of(pets_root, name)
        image = to_tensor(normalise(read_image(image_path(pets_root, name)), net.mean, net.std))
        affinity = image_affinity(net, image, "fp32")
        expected = image_mask(
            torch.from_numpy(seed.cam), torch.from_numpy(seed.keys), affinity, PRESETS["psa"]
        )
        assert expected.shape == seed.size
        np.testing.assert_array_equal(read_mask(masks / f"{name}.png"), expected.numpy())


def test_masks_say_what_they_are(masks, pets_root):
    meta = read_mask_meta(masks / f"{load_ids(pets_root, 'train')[0]}.png")
    assert (meta["stage"], meta["alpha"], meta["beta"], meta["logt"]) == ("aff_mask", 16, 8, 8)
    assert meta["cam"]["stage"] == "cam_refined"


def test_finished_masks_are_kept(masks, pets_root, weights, cam_dir):
    before = {path.name: path.stat().st_mtime_ns for path in masks.iterdir()}
    _infer(pets_root, weights, cam_dir, masks)
    assert {path.name: path.stat().st_mtime_ns for path in masks.iterdir()} == before
    _infer(pets_root, weights, cam_dir, masks, "--overwrite")
    assert all(path.stat().st_mtime_ns > before[path.name] for path in masks.iterdir())


def test_masks_are_of_the_entry_that_is_named(pets_root, weights, cam_dir, tmp_path):
    def infer(path, out, *flags):
        _infer(pets_root, path, cam_dir, out, *flags)
        return min(out.iterdir())

    assert_made_of_the_entry(infer, weights, tmp_path / "mask", read_mask_meta)


def test_released_files_give_the_same_masks(masks, pets_root, weights, tmp_path):
    folder = write_seeds(pets_root, tmp_path / "cam", "released")
    for path in _infer(pets_root, weights, folder, tmp_path / "mask").iterdir():
        np.testing.assert_array_equal(read_mask(path), read_mask(masks / path.name))


def test_alpha_of_a_threshold_chosen_without_masks(pets_root, weights, cam_dir, tmp_path, capsys):
    out = _infer(pets_root, weights, cam_dir, tmp_path / "mask", "--alpha", "auto")
    threshold = choose_threshold(pets_root, load_ids(pets_root, "train"), cam_dir)
    assert f"background threshold chosen without masks: {threshold:.2f}" in capsys.readouterr().out
    assert {read_mask_meta(path)["alpha"] for path in out.iterdir()} == {threshold_alpha(threshold)}


def test_image_without_classes_is_background(pets_root, weights, tmp_path):
    folder = write_seeds(pets_root, tmp_path / "cam", "released")
    name, size = write_empty_seed(pets_root, folder)
    masks = _infer(pets_root, weights, folder, tmp_path / "mask")
    assert_background(masks / f"{name}.png", size)


def test_half_precision_gives_nearly_the_same_masks(masks, pets_root, weights, cam_dir, tmp_path):
    folder = _infer(pets_root, weights, cam_dir, tmp_path, "--precision", "bf16")
    assert_half_precision_masks(folder, masks)


def test_evaluation_reads_the_masks(masks, pets_root, capsys):
    said = evaluated(pets_root, masks, "train", capsys)
    assert said.startswith("list train, 5 images, aff_mask\nno threshold\n")


def test_weights_of_another_network_are_named(pets_root, cam_dir, tmp_path):
    path = tmp_path / "irn.pth"
    save_network(path, torch.nn.Linear(2, 2), {"method": "irn", "backbone": "resnet50"}, PETS, {})
    with pytest.raises(
        InputError,
        match=r"trained weights .*irn\.pth are not of AffinityNet; give weights of train_aff\.py",
    ):
        _infer(pets_root, path, cam_dir, tmp_path)
    with pytest.raises(
        InputError,
        match=r"trained weights not found: .*none\.pth; train with train_aff\.py, or set --weights "
        r"FILE",
    ):
        _infer(pets_root, tmp_path / "none.pth", cam_dir, tmp_path)
