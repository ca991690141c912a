"""A photograph through both networks: what is kept gives the masks of running them again."""

import numpy as np
import pytest
import torch

from network.cam_inference import class_probabilities, image_cam
from network.seg import build_seg, merged_logits
from network.trial import try_photograph
from tool.expand.crf import CRF_SETTINGS, crf_probabilities, threshold_mask
from tool.transforms import normalise, resize, scaled_images, to_tensor

SCALES, LONG_SIDE = (0.75, 1.0), 64
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found(small_net):
    """(photograph, segmentation network, trial)."""
    torch.manual_seed(1)
    seg = build_seg("deeplabv1", "resnet10t", 3, head_channels=8).eval()
    image = np.random.default_rng(0).integers(0, 256, (72, 96, 3), np.uint8)
    return image, seg, try_photograph(image, small_net, seg, SCALES, LONG_SIDE, CPU)


def test_maps_and_probabilities_are_the_networks(found, small_net):
    image, seg, trial = found
    size, scaled = scaled_images(image, SCALES, small_net.mean, small_net.std, LONG_SIDE)
    assert size == trial.size == (48, 64)
    keys = torch.arange(3)
    for refined, maps in ((False, trial.plain), (True, trial.refined)):
        expected = image_cam(small_net, scaled, size, keys, refined, True, "fp32")
        np.testing.assert_array_equal(maps, expected)
    reduced = to_tensor(normalise(resize(image, *size), small_net.mean, small_net.std))
    np.testing.assert_array_equal(trial.probability, class_probabilities(small_net, reduced))
    size, scaled = scaled_images(image, SCALES, seg.mean, seg.std, LONG_SIDE)
    with torch.inference_mode():
        raw = merged_logits(seg, scaled, size, True).softmax(0).numpy()
    expected = crf_probabilities(resize(image, *size), raw, CRF_SETTINGS["deeplab"])
    np.testing.assert_allclose(trial.labels, expected, atol=1e-3)
    np.testing.assert_array_equal(trial.model_mask([0, 1, 2]), trial.labels.argmax(axis=0))


def test_masks_follow_threshold_and_classes(found):
    _, _, trial = found
    keys = np.arange(3)
    for threshold in (0.2, 0.7):
        expected = threshold_mask(trial.refined, keys, threshold)
        np.testing.assert_array_equal(trial.cam_mask(threshold, [2, 0, 1]), expected)
    for key in range(3):  # of a network that learnt nothing a map may be empty
        expected = threshold_mask(trial.refined[[key]], np.array([key]), 0.2)
        np.testing.assert_array_equal(trial.cam_mask(0.2, [key]), expected)
    assert len(np.unique(trial.cam_mask(0.2, [0, 1, 2]))) > 1
    assert not trial.cam_mask(0.2, []).any()
    assert not trial.model_mask([]).any()
    two = trial.labels[[0, 1, 3]].astype(np.float32).argmax(axis=0)
    np.testing.assert_array_equal(trial.model_mask([2, 0]), np.array([0, 1, 3])[two])
    assert trial.cam_mask(0.2, [0, 1], (72, 96)).shape == (72, 96)
    assert trial.model_mask([0, 1], (72, 96)).shape == (72, 96)
    heat = trial.heat(trial.refined, [0, 2])
    np.testing.assert_array_equal(heat, np.maximum(trial.refined[0], trial.refined[2]))
    assert not trial.heat(trial.plain, []).any()


def test_classes_are_seen_from_their_cut_off(found):
    _, _, trial = found
    order = np.argsort(trial.probability)
    cut = np.full(3, trial.probability[order[1]])
    assert trial.seen(cut) == sorted(order[1:].tolist())
