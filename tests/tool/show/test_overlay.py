"""Pictures of CAMs: sizes, colours at the ends of the scale, what is left alone."""

import numpy as np
import pytest

from tool.mask_values import voc_palette
from tool.show.overlay import (
    cam_panel,
    caption,
    mask_overlay,
    overlay,
    scale_bar,
    with_inner_legend,
)


def _photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(50, 90, 3), dtype=np.uint8)


def test_overlay_goes_from_blue_to_red():
    image = np.zeros((2, 3, 3), np.uint8)
    cam = np.array([[0, 0.1, 0.2], [0.8, 0.9, 1.0]], dtype=np.float32)
    colours = overlay(image, cam, opacity=1.0).astype(int)
    assert colours[0, 2, 2] > colours[0, 2, 0]  # RGB: blue over red
    assert colours[1, 1, 0] > colours[1, 1, 2]


def test_opacity_mixes_photograph_and_colours():
    image, cam = _photograph(), np.random.default_rng(1).random((50, 90), dtype=np.float32)
    np.testing.assert_array_equal(overlay(image, cam, opacity=0.0), image)
    mixed = (image.astype(float) + overlay(image, cam, opacity=1.0)) / 2
    np.testing.assert_allclose(overlay(image, cam), mixed, atol=1)


def test_values_outside_the_unit_range_are_cut():
    image = _photograph()
    for value, cut in ((-1.0, 0.0), (1.00001, 1.0)):
        one, two = (overlay(image, np.full((50, 90), v, dtype=np.float32)) for v in (value, cut))
        np.testing.assert_array_equal(one, two)


def test_caption_writes_in_the_corner_of_a_copy():
    image = _photograph()
    before = image.copy()
    written = caption(image, "cat")
    np.testing.assert_array_equal(image, before)
    assert (written[:12, :20] != image[:12, :20]).any()
    np.testing.assert_array_equal(written[-15:, -30:], image[-15:, -30:])


@pytest.mark.parametrize(("active", "tiles"), [([0, 2], 3), ([], 1)])
def test_panel_has_a_tile_for_the_photograph_and_each_active_class(active, tiles):
    image, cam = _photograph(), np.full((3, 50, 90), -1.0, dtype=np.float32)
    cam[active] = 0.5
    panel = cam_panel(image, cam, ("cat", "dog", "owl"))
    assert panel.shape == (50, tiles * 90, 3)
    assert panel.dtype == np.uint8
    np.testing.assert_array_equal(panel[:, :90], image)


def test_mask_overlay_leaves_background_and_colours_classes_and_borders():
    image = np.full((12, 12, 3), 200, dtype=np.uint8)
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[2:10, 2:10] = 1
    shown = mask_overlay(image, mask, opacity=1.0)
    assert (shown[0, 0] == 200).all()
    assert (shown[5, 5] == voc_palette()[1]).all()
    assert (shown[2, 5] == 255).all()
    assert (image == 200).all()


def test_borders_are_one_pixel_and_ignored_pixels_have_none():
    image = np.full((12, 12, 3), 200, dtype=np.uint8)
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[:, 4:8], mask[:, 8:] = 1, 2
    white = (mask_overlay(image, mask, opacity=1.0) == 255).all(axis=2)
    assert white[5].tolist() == [x in (4, 8) for x in range(12)]
    mask[:, 4] = mask[:, 8] = 255
    shown = mask_overlay(image, mask, opacity=1.0)
    assert not (shown == 255).all(axis=2).any()
    assert (shown[5, 4] == 160).all()


def test_scale_bar_runs_through_the_colours_of_a_cam():
    bar = scale_bar(3, 256).astype(int)
    ends = overlay(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.float32), opacity=1.0)
    np.testing.assert_array_equal(bar[0, [0, -1]], ends[0])
    np.testing.assert_array_equal(bar[0], bar[2])


def test_inner_legend_keeps_the_size_and_names_the_largest():
    picture = np.full((40, 120, 3), 90, np.uint8)
    mask = np.zeros((40, 120), np.uint8)
    mask[:, 60:] = 2
    mask[:2, :2] = 1
    names = ("background", "cat", "dog", "owl")
    shown = with_inner_legend(picture, mask, names)
    assert shown.shape == picture.shape
    colours = {tuple(int(part) for part in pixel) for pixel in shown.reshape(-1, 3)}
    palette = voc_palette()
    assert tuple(palette[2]) in colours
    assert tuple(palette[1]) not in colours  # one line fits
    tall = with_inner_legend(np.full((90, 120, 3), 90, np.uint8), mask, names)
    colours = {tuple(int(part) for part in pixel) for pixel in tall.reshape(-1, 3)}
    assert {tuple(palette[1]), tuple(palette[2])} <= colours
    assert tuple(palette[3]) not in colours
    np.testing.assert_array_equal(with_inner_legend(picture, 0 * mask, names), picture)
