"""A map computed in bands of rows: what a few convolutions give, without their intermediate maps
ever being held whole.

For inference, where a photograph at twice its size makes maps of hundreds of MiB. Every output
pixel goes through the same arithmetic as without bands; convolution libraries may add up in another
order, which is rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BAND_ELEMENTS = 16 * 2**20  # of the widest map inside a band; 64 MiB in float32


def in_bands(
    function: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    x: Tensor,
    halo: int,
    widest: int,
    stride: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """function(x), computed in bands of its rows.

    function: map (B, C, H, W) -> map (B, D, ceil(H / stride), W'), or a tuple of such maps, whose
              row i depends on the input's rows stride * i - halo to stride * i + halo; zero padding
              at the border only
    widest:   numbers that its widest map inside has for each of its output pixels, which sets the
              bands' height
    Raises ValueError where gradients are on: the point is to forget what is inside.
    """
    if torch.is_grad_enabled():
        raise ValueError(
            "in_bands is for inference; call it under torch.no_grad() or torch.inference_mode()"
        )
    batch, _, height, width = x.shape
    margin = -(-halo // stride)  # output rows
    rows = max(2 * margin, 1, BAND_ELEMENTS // max(1, batch * widest * -(-width // stride)))
    out_height = -(-height // stride)
    if rows >= out_height:
        return function(x)
    whole: list[Tensor] = []
    single = False
    for start in range(0, out_height, rows):
        stop, first = min(start + rows, out_height), max(0, start - margin)
        bands = function(x[:, :, first * stride : (stop + margin) * stride])
        single = isinstance(bands, Tensor)
        bands = (bands,) if single else bands
        if not whole:
            layout = (
                torch.channels_last
                if x.is_contiguous(memory_format=torch.channels_last)
                else torch.contiguous_format
            )
            whole = [
                torch.empty(
                    (batch, band.shape[1], out_height, band.shape[3]),
                    dtype=band.dtype,
                    device=band.device,
                    memory_format=layout,
                )
                for band in bands
            ]
        for target, band in zip(whole, bands, strict=True):
            target[:, :, start:stop] = band[:, :, start - first : stop - first]
    return whole[0] if single else tuple(whole)
