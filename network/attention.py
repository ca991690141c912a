"""Self-attention of a plain vision transformer as an affinity of its patches.

MCTformer (CVPR 2022), TransCAM and AFA (CVPR 2022) spread a CAM along the mean of their
transformer's attention; here it takes the place of PCM's cosine of features.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from network.timm_backbone import TimmBackbone
from tool.errors import InputError


@contextmanager
def recorded_attention(attentions: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that fills with the mean over heads, (B, T, T), of what each of timm's attention
    modules computes inside the context; rows are queries and sum to 1, T counts all tokens.

    The modules leave their fused kernel, which keeps no such matrix, for as long.
    """
    found: list[Tensor] = []
    fused = [attention.fused_attn for attention in attentions]
    # timm hands the matrix after its softmax to attn_drop, which does nothing in eval mode
    hooks = [
        attention.attn_drop.register_forward_pre_hook(
            lambda _module, inputs: found.append(inputs[0].float().mean(dim=1))
        )
        for attention in attentions
    ]
    try:
        for attention in attentions:
            attention.fused_attn = False
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for attention, was in zip(attentions, fused, strict=True):
            attention.fused_attn = was


def attention_modules(backbone: nn.Module, blocks: Sequence[int] | None) -> list[nn.Module]:
    """timm's attention modules of the given blocks (0 is the first, -1 the last), None all.

    Raises InputError for a backbone that is no plain transformer with self-attention of patches,
    and for a block that it has not.
    """
    layers = getattr(backbone.model, "blocks", ()) if getattr(backbone, "plain", False) else ()
    attentions = [getattr(layer, "attn", None) for layer in layers]
    if not attentions or not all(
        hasattr(attention, "attn_drop") and hasattr(attention, "fused_attn")
        for attention in attentions
    ):
        raise _no_attention(backbone)
    if blocks is None:
        return attentions
    if wrong := [block for block in blocks if not -len(attentions) <= block < len(attentions)]:
        raise InputError(
            f"--attention_blocks {wrong[0]}: {backbone.name} has blocks 0 to "
            f"{len(attentions) - 1}, or -1 to -{len(attentions)} from the last"
        )
    return [attentions[block] for block in sorted({block % len(attentions) for block in blocks})]


def patch_attention(
    backbone: TimmBackbone, x: Tensor, blocks: Sequence[int] | None = None
) -> tuple[Tensor, tuple[int, int]]:
    """((B, N, N), (h, w)): mean over heads and blocks of the self-attention between the N = h * w
    patches of normalised images x (B, 3, H, W).

    Row i says what patch i attends to. Class and register tokens are left out, and each row is
    divided by its sum. backbone: in eval mode; raises InputError as attention_modules.
    """
    with recorded_attention(attention_modules(backbone, blocks)) as found:
        size = tuple(backbone.forward_maps(x)[-1].shape[2:])
    cells = size[0] * size[1]
    if found[0].shape[1] < cells:  # XCiT: attention between channels
        raise _no_attention(backbone)
    attention = torch.stack(found).mean(dim=0)[:, -cells:, -cells:]
    return attention / attention.sum(dim=2, keepdim=True), size


def _no_attention(backbone: nn.Module) -> InputError:
    return InputError(
        f"--affinity attention: {getattr(backbone, 'name', 'resnet38')} has no self-attention of "
        "all patches; choose a plain transformer, such as a ViT, DeiT or DINO model, for "
        "--backbone or --refiner"
    )
