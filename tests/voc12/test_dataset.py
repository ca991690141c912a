"""Samples and their order: what (seed, epoch, index) fixes, whatever the loader does."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import PETS
from tool.errors import InputError
from tool.file.images import read_image
from tool.patches import PatchMask
from tool.transforms import TrainTransform, normalise
from voc12.dataset import (
    EpochSampler,
    InferenceSet,
    IterationSampler,
    TrainSet,
    class_weights,
    epoch_loader,
)
from voc12.labels import load_labels
from voc12.lists import image_path, load_ids

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# ============ EpochSampler ============
@given(
    length=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
def test_epoch_is_a_permutation_without_the_last_partial_batch(length, batch_size, seed, epoch):
    sampler = EpochSampler(length, batch_size, seed, epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler) == length // batch_size * batch_size
    assert {key[0] for key in keys} <= {epoch}
    indices = [key[1] for key in keys]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(length))


def test_skipped_batches_are_those_already_seen():
    whole = list(EpochSampler(11, 2, seed=1, epoch=3))
    for skip in (0, 1, 4, 5):
        rest = EpochSampler(11, 2, seed=1, epoch=3, skip=skip)
        assert list(rest) == whole[2 * skip :]
        assert len(rest) == len(whole) - 2 * skip


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_parts_of_the_ranks_make_up_the_batch(monkeypatch, ranks):
    whole = list(EpochSampler(20, 6, seed=1, epoch=3, skip=1))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    parts = []
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        sampler = EpochSampler(20, 6, seed=1, epoch=3, skip=1)
        parts.append(list(sampler))
        assert len(sampler) == len(parts[-1]) == 12 // ranks
    size = 6 // ranks
    for batch in range(2):
        together = [key for part in parts for key in part[batch * size : (batch + 1) * size]]
        assert together == whole[6 * batch : 6 * (batch + 1)]


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    def order(**changed):
        return [
            index
            for _, index in EpochSampler(
                **({"length": 50, "batch_size": 5, "seed": 0, "epoch": 0} | changed)
            )
        ]

    torch.manual_seed(1)
    first = order()
    torch.manual_seed(2)
    assert order() == first
    assert order(seed=1) != first
    assert order(epoch=1) != first


def test_images_left_out_differ_between_epochs():
    left_out = {
        frozenset(range(5)) - {i for _, i in EpochSampler(5, 2, seed=0, epoch=epoch)}
        for epoch in range(60)
    }
    assert len(left_out) == 5


def test_samples_come_as_often_as_their_weights_say():
    weights = np.array([4.0, 1, 1, 0.5, 0.5, 0, 1, 0])  # of 8, so each is a count
    epochs = [list(EpochSampler(8, 2, seed=1, epoch=epoch, weights=weights)) for epoch in range(60)]
    counts = np.array([np.bincount([index for _, index in keys], minlength=8) for keys in epochs])
    assert (abs(counts - weights) < 1).all()
    assert np.allclose(counts.mean(axis=0), weights, atol=0.15)
    keys = [key for epoch in epochs for key in epoch]
    assert len(set(keys)) == len(keys)  # each visit draws other numbers
    assert epochs[3] == list(EpochSampler(8, 2, seed=1, epoch=3, weights=weights))
    assert epochs[3][4:] == list(EpochSampler(8, 2, seed=1, epoch=3, skip=2, weights=weights))
    whole = list(IterationSampler(8, 2, 1, 0, 8, weights))
    assert whole == epochs[0] + epochs[1]
    assert list(IterationSampler(8, 2, 1, 3, 8, weights)) == whole[6:]


def test_equal_weights_leave_none_out():
    keys = list(EpochSampler(9, 3, seed=2, epoch=5, weights=np.full(9, 0.3)))
    assert sorted(keys) == [(5, index) for index in range(9)]


def test_class_weights_bring_each_class_as_often():
    # ten of class 0, two of class 1, one of both, two of none
    labels = np.array([[1, 0]] * 10 + [[0, 1]] * 2 + [[1, 1]] + [[0, 0]] * 2, dtype=np.float32)
    weights = class_weights(labels)
    assert np.allclose(weights, [1 / 11] * 10 + [1 / 3] * 3 + [1 / 2] * 2)
    shares = [weights[:10].sum(), weights[10:13].sum(), weights[13:].sum()]
    assert np.allclose(shares, [10 / 11, 1, 1])
    assert class_weights(np.eye(3)) is None


# ============ IterationSampler ============
@given(cuts=st.lists(st.integers(0, 17), max_size=3).map(sorted))
def test_rounds_and_resumed_rounds_make_up_the_epochs(cuts):
    """11 images in batches of 2: five iterations an epoch, so rounds begin and end inside
    epochs.
    """
    epochs = [key for epoch in range(4) for key in EpochSampler(11, 2, seed=1, epoch=epoch)]
    pieces = [0, *cuts, 17]
    samplers = [IterationSampler(11, 2, 1, start, stop) for start, stop in pairwise(pieces)]
    assert [key for sampler in samplers for key in sampler] == epochs[: 2 * 17]
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_ranks_share_the_iterations(monkeypatch):
    whole = list(IterationSampler(11, 2, 1, 3, 9))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        sampler = IterationSampler(11, 2, 1, 3, 9)
        assert list(sampler) == whole[rank::2]
        assert len(sampler) == 6


# ============ TrainSet ============
@pytest.fixture(scope="module")
def train_set(pets_root):
    ids = load_ids(pets_root, "train")
    labels = load_labels(pets_root, ids, PETS)
    transform = TrainTransform(MEAN, STD, crop_size=32, resize_long=(30, 50))
    return TrainSet(pets_root, ids, labels, transform, PatchMask(segments=20), seed=4)


def _same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(one[name], two[name])
        if isinstance(one[name], torch.Tensor)
        else one[name] == two[name]
        for name in one
    )


def test_sample_has_the_fields_of_the_cp_pair(train_set, pets_root):
    sample = train_set[0, 1]
    assert set(sample) == {"id", "image", "label", "mask", "visible"}
    assert sample["id"] == train_set.ids[1]
    assert (sample["image"].shape, sample["image"].dtype) == ((3, 32, 32), torch.float32)
    assert (sample["mask"].shape, sample["mask"].dtype) == ((32, 32), torch.bool)
    assert sample["visible"].item() == pytest.approx(sample["mask"].float().mean().item())
    expected = load_labels(pets_root, [sample["id"]], PETS)[0]
    np.testing.assert_array_equal(sample["label"], expected)


def test_without_a_patch_mask_there_is_none(train_set):
    plain = TrainSet(
        train_set.voc12_root,
        train_set.ids,
        train_set.labels.numpy(),
        train_set.transform,
        None,
        seed=4,
    )
    sample = plain[0, 1]
    assert set(sample) == {"id", "image", "label"}
    assert torch.equal(sample["image"], train_set[0, 1]["image"])  # the mask draws after the image


def test_sample_depends_on_seed_epoch_and_index_alone(train_set):
    keys = [(0, 0), (0, 3), (1, 0)]
    forwards, backwards = (
        [train_set[key] for key in keys],
        [train_set[key] for key in reversed(keys)],
    )
    assert all(_same(one, two) for one, two in zip(forwards, reversed(backwards), strict=True))
    assert not torch.equal(forwards[0]["image"], forwards[2]["image"])
    other = TrainSet(
        train_set.voc12_root,
        train_set.ids,
        train_set.labels.numpy(),
        train_set.transform,
        None,
        seed=5,
    )
    assert not torch.equal(other[0, 0]["image"], forwards[0]["image"])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_the_same_in_any_number_of_workers(train_set, num_workers):
    def batches(workers: int) -> list[dict]:
        return list(epoch_loader(train_set, 2, seed=4, num_workers=workers, pin_memory=False)(2, 0))

    expected = batches(0)
    assert len(expected) == 2
    assert all(_same(one, two) for one, two in zip(batches(num_workers), expected, strict=True))


def test_loader_skips_iterations_and_leaves_the_global_generator_alone(train_set):
    loader = epoch_loader(train_set, 2, seed=4, num_workers=0, pin_memory=False)
    whole = list(loader(1, 0))
    state = torch.get_rng_state()
    rest = list(loader(1, 1))
    # else a resumed run would draw other dropout masks
    assert torch.equal(torch.get_rng_state(), state)
    assert len(rest) == 1
    assert _same(rest[0], whole[1])
    assert list(loader(1, 2)) == []


def test_image_that_cannot_be_read_is_named(train_set):
    broken = TrainSet(
        train_set.voc12_root,
        ["2007_999999"],
        np.ones((1, 3), np.float32),
        train_set.transform,
        None,
        seed=0,
    )
    with pytest.raises(InputError, match=r"^no image for id 2007_999999: "):
        broken[0, 0]


# ============ InferenceSet ============
def test_inference_sample_is_the_image_at_every_scale(pets_root):
    ids = load_ids(pets_root, "val")
    paths = [image_path(pets_root, name) for name in ids]
    labels = load_labels(pets_root, ids, PETS)
    data = InferenceSet(ids, paths, labels, (0.5, 1.0, 1.5), MEAN, STD)
    assert len(data) == 2
    sample = data[1]
    image = read_image(paths[1])
    height, width = image.shape[:2]
    assert (sample["id"], sample["size"]) == (ids[1], (height, width))
    assert [tuple(scaled.shape) for scaled in sample["scaled"]] == [
        (3, round(height * scale), round(width * scale)) for scale in (0.5, 1.0, 1.5)
    ]
    np.testing.assert_array_equal(
        sample["scaled"][1], normalise(image, MEAN, STD).transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(sample["label"], labels[1])
    assert "label" not in InferenceSet(ids, paths, None, (1.0,), MEAN, STD)[0]


def test_a_scale_that_leaves_nothing_of_a_side_leaves_a_pixel(pets_root):
    path = image_path(pets_root, load_ids(pets_root, "val")[0])
    assert InferenceSet(["a"], [path], None, (0.001,), MEAN, STD)[0]["scaled"][0].shape == (3, 1, 1)
