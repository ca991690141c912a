"""Bands of rows give what the whole map gives, at every height, stride and halo."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from network import bands
from network.bands import in_bands


@pytest.mark.parametrize("height", [7, 16, 33])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_convolutions_in_bands(monkeypatch, height, rows):
    """A stride-2 convolution of halo 3 (dilation 3) and one of halo 1 behind it, in float64."""
    torch.manual_seed(0)
    first = nn.Conv2d(2, 4, 3, stride=2, padding=3, dilation=3, dtype=torch.float64)
    second = nn.Conv2d(4, 3, 3, padding=1, dtype=torch.float64)
    seen = []

    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(x.shape[2])
        y = F.relu(first(x))
        return second(y), y

    x = torch.randn(2, 2, height, 9, dtype=torch.float64).to(memory_format=torch.channels_last)
    monkeypatch.setattr(bands, "BAND_ELEMENTS", rows * 2 * 4 * 5)
    with torch.no_grad():
        found, wanted = in_bands(both, x, halo=3 + 2 * 1, widest=4, stride=2), both(x)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    assert len(seen) > 2 or height == 7  # a band is no lower than its margins
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_a_map_that_fits_goes_through_once():
    calls = []
    x = torch.randn(1, 2, 40, 40)
    with torch.inference_mode():
        assert in_bands(lambda x: calls.append(1) or x, x, halo=2, widest=2) is x
    assert len(calls) == 1


def test_too_small_a_halo_would_show(monkeypatch):
    """The comparison above can fail: with a halo of 0 the bands' borders are wrong."""
    conv, x = nn.Conv2d(1, 1, 3, padding=1), torch.randn(1, 1, 12, 12)
    monkeypatch.setattr(bands, "BAND_ELEMENTS", 4 * 12)
    with torch.no_grad():
        assert not torch.allclose(in_bands(conv, x, halo=0, widest=1), conv(x))
        torch.testing.assert_close(in_bands(conv, x, halo=1, widest=1), conv(x))


def test_gradients_are_refused():
    with pytest.raises(ValueError, match="in_bands is for inference"):
        in_bands(lambda x: x, torch.zeros(1, 1, 4, 4), halo=1, widest=1)
