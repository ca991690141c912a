"""Self-attention as affinity: against loops over queries and keys, and against timm's own."""

import pytest
import timm
import torch
from timm.utils.attention_extract import AttentionExtract

from network.attention import attention_modules, patch_attention, recorded_attention
from network.timm_backbone import TimmBackbone
from tool.errors import InputError


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    net = TimmBackbone("vit_tiny_patch16_224").eval()
    net.model.blocks = net.model.blocks[:3]
    net.model.feature_info = net.model.feature_info[:3]
    net.early = [0, 1]
    return net


def _attention_by_loops(block, tokens):
    """(heads, T, T) of one image's tokens (T, D), one query, key and head at a time."""
    attention = block.attn
    x = block.norm1(tokens)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    heads, width, count = attention.num_heads, attention.head_dim, len(tokens)
    found = torch.zeros(heads, count, count)
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        q, k = (
            x @ weight[part * heads * width :][rows].T + bias[part * heads * width :][rows]
            for part in (0, 1)
        )
        for i in range(count):
            scores = torch.stack([(q[i] * k[j]).sum() for j in range(count)]) * width**-0.5
            found[head, i] = scores.exp() / scores.exp().sum()
    return found


@torch.no_grad()
def test_attention_is_that_of_loops_over_heads_queries_and_keys(vit):
    x = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    tokens = vit.model._pos_embed(vit.model.patch_embed(x))
    maps = []
    for block in vit.model.blocks:
        maps.append(_attention_by_loops(block, tokens[0]).mean(dim=0))
        tokens = block(tokens)
    for blocks, chosen in ((None, maps), ([0], maps[:1]), ([-1, 1], maps[1:])):
        expected = torch.stack(chosen).mean(dim=0)[1:, 1:]  # without the class token
        expected = expected / expected.sum(dim=1, keepdim=True)
        attention, size = patch_attention(vit, x, blocks)
        assert size == (2, 3)
        torch.testing.assert_close(attention[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
@torch.no_grad()
def test_recorded_attention_is_timms_own(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, depth=2).eval()
    modules = [block.attn for block in model.blocks]
    x = torch.randn(1, 3, 224, 224)
    with recorded_attention(modules) as found:
        fast = model(x)
    assert all(module.fused_attn for module in modules)
    for module in modules:
        module.fused_attn = False
    theirs = AttentionExtract(model, names=["blocks.*.attn.attn_drop"], method="hook")(x)
    for mine, other in zip(found, theirs.values(), strict=True):
        torch.testing.assert_close(mine, other.mean(dim=1))
    torch.testing.assert_close(fast, model(x), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_recording_changes_no_features(vit):
    x = torch.randn(1, 3, 32, 48)
    before = vit.forward_features(x)["conv6"]
    patch_attention(vit, x)
    assert torch.equal(vit.forward_features(x)["conv6"], before)


@pytest.mark.parametrize("name", ["resnet10t", "xcit_nano_12_p16_224", "pvt_v2_b0"])
def test_networks_without_attention_of_patches_are_named(name):
    with pytest.raises(InputError) as error:
        patch_attention(TimmBackbone(name).eval(), torch.zeros(1, 3, 512, 512))
    assert str(error.value).startswith(
        f"--affinity attention: {name} has no self-attention of all patches; choose a plain"
    )


def test_blocks_that_are_not_there_are_named(vit):
    with pytest.raises(InputError, match=r"^--attention_blocks 3: vit_tiny_patch16_224 has blocks"):
        attention_modules(vit, [0, 3])
