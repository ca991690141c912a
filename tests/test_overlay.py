"""Pictures of CAMs: sizes, colours at the ends of the scale, what is left alone."""

import numpy as np
import pytest

from tool.overlay import cam_panel, caption, contact_sheet, mask_overlay, overlay
from voc12.constants import voc_palette


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


def test_contact_sheet_fits_every_picture_into_its_tile():
    wide, tall = np.full((10, 40, 3), 10, dtype=np.uint8), np.full((40, 10, 3), 20, dtype=np.uint8)
    sheet = contact_sheet([[wide, tall], [tall, wide]], ["a", "b"], tile=(30, 40))
    assert sheet.shape == (28 + 2 * 36, 6 + 2 * 46, 3)
    below_titles = sheet[28:]
    assert (below_titles[:30, 6:46] == 10).all(axis=2).sum() == 10 * 40  # not enlarged beyond the width
    assert (below_titles[:30, 52:92] == 20).all(axis=2).sum() == 30 * 8  # 40 x 10 shrunk to the height
