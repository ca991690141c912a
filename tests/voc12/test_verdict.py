"""The verdict on a training: what a network that learnt nothing shows, and one that learnt."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.conftest import PETS
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.verdict import ASTRAY, IMAGES, Verdict, go_astray, judge, prior_loss

LONG_SIDE = 90  # pixels


PLAIN = torch.ones(4, 5)
ASIDE = torch.tensor([[1.0] * 5, [1, -1, -1, -1, 1], [1, -1, -1, -1, 1], [1] * 5])


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


def test_maps_that_answer_at_the_border_are_named(data):
    """From half of them on; a class beside the labelled ones may answer where it likes."""
    net = _Says(6 * (2 * data[2] - 1), [ASIDE])
    verdict = _judge(net, data)
    assert (verdict.astray, verdict.silent) == (1, 0)
    assert verdict.failures == [
        "100% of the maps of labelled classes answer more at the border of the photograph than in "
        "its middle: beside the objects, unless the classes lie there, as sky and ground do"
    ]
    ids = [data[1][0]] * 8
    labels = np.repeat(data[2][:1], 8, axis=0)
    for astray, failed in ((4, False), (5, True)):
        net = _Says(6 * (2 * labels - 1), [ASIDE] * astray + [-ASIDE] * (8 - astray))
        verdict = _judge(net, (data[0], ids, labels))
        assert verdict.astray == astray / 8
        assert (verdict.astray > ASTRAY) == failed == any("border" in f for f in verdict.failures)


def test_border_is_a_sixteenth_of_the_shorter_side_and_at_least_a_pixel():
    for height, width, frame in ((40, 64, 2), (9, 30, 1)):
        maps = torch.full((2, height, width), -9.0)
        maps[0, :, :frame] = 1
        maps[1, frame, frame] = 1  # neither
        assert go_astray(maps).tolist() == [True, False]
        maps[1, height // 4, width // 4 :] = 1  # the first row of the middle, and the right border
        border = 2 * frame * (height + width - 2 * frame)
        middle = (height - 2 * (height // 4)) * (width - 2 * (width // 4))
        share = (width - 2 * (width // 4)) / middle
        assert go_astray(maps)[1] == (frame / border > share)


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
    assert prior_loss(np.ones((3, 2), dtype=np.float32)) == pytest.approx(0, abs=1e-9)


def test_record_is_plain():
    record = Verdict(images=2, loss=0.5, prior=0.5, silent=0.0, astray=0.0).record()
    assert record["failures"][0].startswith("the classifier's loss is 0.500")
