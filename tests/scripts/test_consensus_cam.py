"""Agreed CAM files through the command line: what is in them, against the parts that make them, and
what is refused.
"""

import cv2
import numpy as np
import pytest
import torch

import consensus_cam
from consensus_cam import main, parse_args
from network.refiner import Refiner
from network.weights import load_network, save_network
from tests.conftest import PETS
from tests.expansions import assert_made_of_the_entry
from tests.seeds import seed_of, write_seeds
from tool.consensus import (
    Lessons,
    agreed_cam,
    around_the_middle,
    fit_agreement,
)
from tool.errors import InputError
from tool.file.cam_file import load_cam
from tool.file.images import read_image
from tool.transforms import normalise, resize, to_tensor
from voc12.lists import image_path, load_ids
from voc12.threshold_choice import choose_sure_thresholds

SCALE = 4  # the pictures are small
CONFIG = {
    "backbone": "resnet10t",
    "num_classes": 3,
    "output_stride": None,
    "refinement": "pcm+prcm",
    "prcm": "released",
    "method": "cpn",
}


@pytest.fixture(scope="module")
def weights(small_net, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "cpn.pth"
    save_network(path, small_net, CONFIG, PETS, {})
    return path


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


def _agree(root, weights, cam_dir, out, *flags):
    words = ["--voc12_root", root, "--train_list", "train", "--infer_list", "val"]
    words += ["--cam_dir", cam_dir, "--weights", weights, "--out_cam", out, "--num_workers", 0]
    main(parse_args([str(word) for word in (*words, "--device", "cpu", *flags)]))
    return out


@pytest.fixture(scope="module")
def agreed(pets_root, weights, cam_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("agreed")
    return _agree(pets_root, weights, cam_dir, out, "--scale", SCALE)


@torch.inference_mode()
def _maps(net, root, name):
    image = read_image(image_path(root, name))
    small = resize(image, *(round(SCALE * side) for side in image.shape[:2]))
    maps = Refiner(net).early_and_deep(to_tensor(normalise(small, net.mean, net.std))[None])
    return [map_[0] for map_ in maps]


def test_files_are_the_agreed_maps_of_what_the_training_seeds_teach(
    agreed, pets_root, weights, cam_dir
):
    net, _, _ = load_network(weights)
    ids = load_ids(pets_root, "train")
    threshold, fg, bg = choose_sure_thresholds(pets_root, ids, cam_dir)
    rng = np.random.default_rng(0)
    lessons = Lessons((fg, bg), rng)
    for name in rng.permutation(ids).tolist():
        seed, (early, deep) = seed_of(pets_root, name), _maps(net, pets_root, name)
        size = early.shape[:0:-1]
        cam = [cv2.resize(map_, size, interpolation=cv2.INTER_AREA) for map_ in seed.cam]
        lessons.add(np.stack(cam), seed.keys, early, deep)
    taught = fit_agreement(*lessons.finish(), 4, seed=0)
    for name in load_ids(pets_root, "val"):
        seed, found = seed_of(pets_root, name), load_cam(agreed / f"{name}.npz")
        early, deep = _maps(net, pets_root, name)
        probabilities = taught.probabilities(early, deep, np.array([0, *(seed.keys + 1)]))
        expected = agreed_cam(seed.cam, threshold, probabilities)
        assert found.keys.tolist() == seed.keys.tolist()
        assert found.size == seed.size
        np.testing.assert_allclose(found.cam, expected, atol=1.1e-4)  # packed
        assert found.meta["stage"] == "cam_refined"  # a seed for all later stages
        assert found.meta["consensus"]["threshold"] == threshold
        assert found.meta["cam"] == seed.meta


def test_finished_files_are_kept_and_other_settings_make_them_again(
    pets_root, weights, cam_dir, tmp_path
):
    name = load_ids(pets_root, "val")[0]

    def time_of(*flags):
        _agree(pets_root, weights, cam_dir, tmp_path, "--scale", SCALE, *flags)
        return (tmp_path / f"{name}.npz").stat().st_mtime_ns

    first = time_of()
    assert time_of() == first
    second = time_of("--seed", 1)
    assert second > first
    assert time_of("--seed", 1, "--overwrite") > second


def test_files_are_of_the_entry_that_is_named(pets_root, weights, cam_dir, tmp_path):
    def infer(path, out, *flags):
        _agree(pets_root, path, cam_dir, out, "--scale", SCALE, *flags)
        return min(out.iterdir())

    def meta_of(path):
        return load_cam(path).meta["consensus"]

    assert_made_of_the_entry(infer, weights, tmp_path / "cam", meta_of)


def test_seeds_of_the_two_lists_may_lie_apart(agreed, pets_root, weights, tmp_path):
    train = write_seeds(pets_root, tmp_path / "train", lists=("train",))
    val = write_seeds(pets_root, tmp_path / "val", lists=("val",))
    flags = ["--infer_cam_dir", val, "--scale", SCALE]
    out = _agree(pets_root, weights, train, tmp_path / "out", *flags)
    for name in load_ids(pets_root, "val"):
        np.testing.assert_array_equal(
            load_cam(out / f"{name}.npz").cam, load_cam(agreed / f"{name}.npz").cam
        )
    with pytest.raises(InputError, match="have no CAM file in"):
        _agree(pets_root, weights, train, tmp_path / "out")


def test_what_cannot_agree_is_refused(pets_root, weights, cam_dir, small_net, tmp_path):
    with pytest.raises(InputError, match="holds the seeds, which are needed again"):
        _agree(pets_root, weights, cam_dir, cam_dir)
    save_network(tmp_path / "other.pth", small_net, CONFIG, ("a", "b", "c"), {})
    with pytest.raises(InputError, match=r"are of other classes \(a, b, c ...\)"):
        _agree(pets_root, tmp_path / "other.pth", cam_dir, tmp_path / "out")


@pytest.mark.parametrize(
    ("sure", "what"), [((0.4, 1.0, 0.0), "no pixel"), ((0.4, 1.0, 0.3), "one label")]
)
def test_seeds_that_teach_nothing_are_straightened_alone(
    pets_root, weights, cam_dir, tmp_path, monkeypatch, capsys, sure, what
):
    monkeypatch.setattr(consensus_cam, "choose_sure_thresholds", lambda *_: sure)
    _agree(pets_root, weights, cam_dir, tmp_path)
    assert f"are sure of {what} alone; they stay as they are" in capsys.readouterr().out
    for name in load_ids(pets_root, "val"):
        expected = around_the_middle(seed_of(pets_root, name).cam, 0.4)
        np.testing.assert_allclose(load_cam(tmp_path / f"{name}.npz").cam, expected, atol=1.1e-4)
