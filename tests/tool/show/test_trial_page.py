"""The pictures of app.py's page: what they say of a mask is right, and text is text."""

import base64
import io
import re

import numpy as np
from PIL import Image

from tool.show.overlay import mask_overlay
from tool.show.trial_page import SHOWN, fitted, mask_figure, said, score_bars

NAMES = ("background", "cat", "<b>dog</b>")


def test_a_mask_is_shown_over_its_photograph_with_its_shares():
    photograph = np.full((80, 100, 3), 120, np.uint8)
    mask = np.zeros((40, 50), np.uint8)
    mask[:20, :25] = 2
    html = mask_figure("m", "A & B", "words", photograph, mask, NAMES)
    assert re.findall(r'data-value="(\d+)" data-share="([\d.]+)"', html) == [("2", "0.2500")]
    assert "&lt;b&gt;dog&lt;/b&gt; 25 %" in html
    assert "<b>A &amp; B</b>" in html
    (content,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)
    expected = mask_overlay(photograph, np.repeat(np.repeat(mask, 2, 0), 2, 1))
    assert np.abs(shown - expected).mean() < 4
    assert "background everywhere" in mask_figure("m", "", "", photograph, 0 * mask, NAMES)


def test_large_photographs_are_shown_smaller():
    assert fitted(np.zeros((1200, 3000, 3), np.uint8)).shape == (224, SHOWN, 3)
    assert fitted(np.zeros((30, 40, 3), np.uint8)).shape == (30, 40, 3)


def test_scores_come_likeliest_first_with_their_cut_offs():
    html = score_bars({"cat": 0.25, "<i>": 0.75}, {"cat": 0.5, "<i>": 0.4})
    assert re.findall(r"width:([\d.]+)%", html) == ["75.0", "25.0"]
    assert re.findall(r"left:([\d.]+)%", html) == ["40.0", "50.0"]
    assert "&lt;i&gt;" in html


def test_what_goes_wrong_is_marked():
    assert 'class="said wrong"' in said("<x>", wrong=True)
    assert "&lt;x&gt;" in said("<x>")
