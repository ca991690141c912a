"""The verdict on a training: what a network that learnt nothing shows, and one that learnt."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.conftest import PETS
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.verdict import FEWEST_MAPS, IMAGES, Verdict, go_astray, judge, prior_loss

LONG_SIDE = 90  # pixels


PLAIN = torch.ones(6, 7)
ASIDE = torch.ones(6, 7)
ASIDE[1:-1, 1:-1] = -0.1


class _Says(nn.Module):
    """A network whose maps are what `say` gives for each image in turn, (C,) values, times a shape;
    shapes come in turn.
    """

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, say, shapes=(PLAIN,)):
        super().__init__()
        self.say = list(say)
        self.shapes = shapes
        self.seen = []

    def cam_and_features(self, x):
        self.seen.append(tuple(x.shape[2:]))
        values = torch.tensor([0.0, *self.say.pop(0)])
        shape = self.shapes[len(self.seen) % len(self.shapes)]
        return values.view(1, -1, 1, 1) * shape, {}


@pytest.fixture
def data(pets_root):
    ids = load_ids(pets_root, "train")
    return pets_root, ids, load_labels(pets_root, ids, PETS)


def _judge(net, data):
    root, ids, labels = data
    return judge(net, root, ids, labels, LONG_SIDE, torch.device("cpu"))


def test_a_network_that_knows_the_labels_is_well(data):
    verdict = _judge(_Says(6 * (2 * data[2] - 1)), data)
    assert verdict.failures == []
    assert verdict.silent == 0
    assert verdict.text().startswith("verdict: no sign of a failed training")


def test_a_network_that_knows_frequencies_alone_has_failed(data):
    share = data[2].mean(axis=0).clip(0.01, 0.99)
    verdict = _judge(_Says([np.log(share / (1 - share))] * len(data[1])), data)
    assert verdict.loss == pytest.approx(verdict.prior, abs=0.02)
    assert "has learnt too little" in verdict.failures[0]
    assert "FAILED" in verdict.text()


def test_photographs_are_shown_at_the_size_of_training(data):
    for long_side in (LONG_SIDE, 700):
        net = _Says([np.zeros(len(PETS))] * len(data[1]))
        judge(net, *data, long_side, torch.device("cpu"))
        assert {max(size) for size in net.seen} == {long_side}


def test_classes_that_no_image_has_do_not_count(data):
    """Neither in the loss nor in what it is set against."""
    root, ids, labels = data
    absent = np.zeros((len(ids), 14), dtype=np.float32)
    logits = 2 * labels - 1
    alone = _judge(_Says(logits), data)
    wide = np.concatenate([labels, absent], axis=1)
    verdict = _judge(_Says(np.concatenate([logits, absent + 3], axis=1)), (root, ids, wide))
    assert (verdict.loss, verdict.prior) == pytest.approx((alone.loss, alone.prior))


def test_maps_that_answer_nowhere_are_named(data):
    logits = np.where(data[2] > 0, -0.1, -9.0)  # the right order, but never a positive value
    verdict = _judge(_Says(logits), data)
    assert verdict.silent == 1
    assert "100% of the maps of labelled classes answer nowhere" in verdict.failures[-1]


def _single(data, count):
    """The first photograph so many times, labelled with the first class alone."""
    labels = np.zeros((count, len(PETS)), dtype=np.float32)
    labels[:, 0] = 1
    return data[0], [data[1][0]] * count, labels


def _astray(data, *shapes, size=LONG_SIDE):
    """Share of maps astray, one map of each shape."""
    root, ids, labels = _single(data, len(shapes))
    net = _Says(6 * (2 * labels - 1), [shapes[-1], *shapes[:-1]])  # the first image is number 1
    return judge(net, root, ids, labels, size, torch.device("cpu")).astray


def test_maps_that_answer_at_the_border_are_astray(data):
    assert _astray(data, *[ASIDE] * 8) == 1
    assert _astray(data, *[ASIDE] * 3, *[PLAIN] * 7) == 0.3
    assert _astray(data, *[-PLAIN] * 2, *[ASIDE] * 3, *[PLAIN] * 7) == 0.3  # of those that answer


def test_maps_are_looked_at_in_the_images_size(data):
    """A ring beside the border is in the middle of the cells, but not of the image."""
    ring = torch.ones(6, 6)
    ring[1:-1, 1:-1] = 2
    ring[2:-2, 2:-2] = 0
    assert not go_astray(ring[None]).any()
    assert _astray(data, *[ring] * 8) == 1


def test_few_cells_or_maps_say_nothing(data):
    small = ASIDE[[0, 1, 2, -1]]
    assert go_astray(small[None]).all()
    assert _astray(data, *[small] * 8) == 0
    assert _astray(data, *[ASIDE] * (FEWEST_MAPS - 1)) == 0


def test_border_and_middle_against_loops():
    rng = np.random.default_rng(0)
    found = []
    for height, width in ((9, 30), (40, 64), (64, 33), (100, 100), (17, 5)):
        for factor in (0.9, 1.0, 1.1, 1.3):
            one = rng.normal(size=(height, width)).astype(np.float32)
            frame = max(1, min(height, width) // 16)
            border, middle = [], []
            for y in range(height):
                for x in range(width):
                    if min(y, x, height - 1 - y, width - 1 - x) < frame:
                        one[y, x] *= factor
                        border.append(max(float(one[y, x]), 0))
                    if (
                        height // 4 <= y < height - height // 4
                        and width // 4 <= x < width - width // 4
                    ):
                        middle.append(max(float(one[y, x]), 0))
            expected = np.mean(border) > 1.05 * np.mean(middle)
            assert bool(go_astray(torch.from_numpy(one)[None])) == expected
            found.append(expected)
    assert 3 < sum(found) < len(found) - 3


def test_means_that_differ_by_rounding_are_alike():
    flat = torch.rand(50, 1, 1) * torch.ones(50, 90, 60)
    assert not go_astray(flat).any()


@pytest.mark.parametrize("says", [{"loss": 0.55}, {"silent": 0.2}, {"astray": 0.45}])
def test_limits(says):
    """At a limit nothing is said, over it one thing."""
    good = {"images": 64, "loss": 0.1, "prior": 1.0, "silent": 0.0, "astray": 0.0}
    assert Verdict(**good | says).failures == []
    assert Verdict(**good | says).worst == pytest.approx(1)
    (name,) = says
    over = Verdict(**good | {name: says[name] + 0.01})
    assert len(over.failures) == 1
    assert over.worst > 1
    assert over.record()["worst"] == over.worst


def test_a_class_that_all_images_have_leaves_the_loss_unjudged():
    verdict = Verdict(images=64, loss=0.01, prior=0.0, silent=0.0, astray=0.0)
    assert (verdict.failures, verdict.worst) == ([], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_named(data, value):
    """Also where one image alone has them."""
    logits = 6 * (2 * data[2] - 1)
    logits[0] = value
    verdict = _judge(_Says(logits), data)
    assert "the network's scores are not finite" in verdict.failures
    assert verdict.worst == np.inf
    assert "FAILED" in verdict.text()


def test_what_is_known_without_learning_is_that_of_the_whole_list(data):
    root, ids, labels = _single(data, 2 * IMAGES)
    labels[1::2] = np.roll(labels[1::2], 1, axis=1)  # of each pair the first is looked at
    verdict = _judge(_Says(6 * (2 * labels[::2] - 1)), (root, ids, labels))
    assert verdict.prior == pytest.approx(prior_loss(labels[:, :2])) == pytest.approx(np.log(2))


def test_a_long_list_is_sampled_evenly(data):
    ids = list(data[1]) * 40
    labels = np.tile(data[2], (40, 1))
    net = _Says(6 * (2 * labels - 1))
    assert _judge(net, (data[0], ids, labels)).images == len(net.seen) == IMAGES


def test_prior_is_the_loss_of_the_frequencies():
    labels = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=np.float32)
    logits = torch.logit(torch.from_numpy(labels.mean(axis=0)))
    losses = [
        F.multilabel_soft_margin_loss(logits[None], torch.from_numpy(label)[None]).item()
        for label in labels
    ]
    assert prior_loss(labels) == pytest.approx(np.mean(losses))
    assert prior_loss(np.ones((3, 2), dtype=np.float32)) == 0


def test_record_is_plain():
    record = Verdict(images=2, loss=0.5, prior=0.5, silent=0.0, astray=0.0).record()
    assert record["failures"][0].startswith("the classifier's loss is 0.500")
