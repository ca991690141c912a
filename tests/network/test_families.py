"""Every family of timm backbones: maps, two training steps, inference at four scales, checkpoints.

The smallest model of each, made smaller by depth and width where timm allows it.
"""

import copy
import sys

import pytest
import timm
import torch
from torch import nn

from network.aff import build_affinity_net
from network.attention import patch_attention
from network.build import build_cpn, freeze_blocks
from network.cam_inference import image_cam
from network.cam_steps import STEPS
from network.irn import IRN
from network.seg import build_seg
from network.timm_backbone import TimmBackbone, whole_patches
from network.weights import load_network, save_network
from tests.conftest import PETS
from tool.errors import InputError
from tool.schedule import build_optimizer

# name -> (model, options of timm that make it smaller, stride)
FAMILIES = {
    "resnet": ("resnet10t", {}, 16),
    "regnet": ("regnetx_002", {}, 16),
    "convnext": ("convnext_atto", {"depths": (1, 1, 2, 1)}, 16),
    "efficientnet": ("efficientnet_lite0", {}, 16),
    "mobilevit": ("mobilevit_xxs", {}, 16),
    "vit": ("vit_tiny_patch16_224", {"depth": 4, "embed_dim": 96}, 16),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", {"depth": 4, "embed_dim": 96}, 16),
    "dinov2, registers": ("vit_small_patch14_reg4_dinov2", {"depth": 4, "embed_dim": 96}, 14),
    "dinov3": ("vit_small_patch16_dinov3", {"depth": 4, "embed_dim": 96}, 16),
    "clip": ("vit_base_patch16_clip_224", {"depth": 4, "embed_dim": 96, "num_heads": 3}, 16),
    "siglip": ("vit_base_patch16_siglip_224", {"depth": 4, "embed_dim": 96, "num_heads": 3}, 16),
    "vit, pooled": ("vit_wee_patch16_reg1_gap_256", {"depth": 4, "embed_dim": 96}, 16),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 2, 1), "embed_dim": 24}, 32),
    "swinv2": ("swinv2_tiny_window8_256", {"depths": (1, 1, 2, 1), "embed_dim": 24}, 32),
    "pvt": ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, 32),
    "twins": ("twins_svt_small", {"depths": (1, 1, 1, 1)}, 32),
    "maxvit": ("maxvit_rmlp_pico_rw_256", {"depths": (1, 1, 1, 1)}, 32),
    "mobilenetv4": ("mobilenetv4_conv_small_035", {}, 32),
    "hgnet": ("hgnetv2_b0", {}, 32),
}
PLAIN = [name for name, (model, _, _) in FAMILIES.items() if model.startswith(("vit_", "deit_"))]
LARGE = ("maxvit",)  # pads to whole windows of 256 pixels: fewer sizes


@pytest.fixture(scope="module")
def small_timm():
    """timm.create_model with the options of FAMILIES, whoever calls it."""
    create = timm.create_model
    options = {model: extra for model, extra, _ in FAMILIES.values()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            timm,
            "create_model",
            lambda model_name, **kw: create(model_name, **kw, **options.get(model_name, {})),
        )
        yield


@pytest.fixture(scope="module")
def nets(small_timm):
    """family -> a CPN network of 3 classes in eval mode, made when asked for. Not to be changed."""
    made = {}

    def get(family: str) -> nn.Module:
        if family not in made:
            torch.manual_seed(0)
            made[family] = build_cpn(FAMILIES[family][0], num_classes=len(PETS)).eval()
        return made[family]

    return get


def _timms_features(backbone: TimmBackbone, family: str, x: torch.Tensor) -> torch.Tensor:
    """timm's own last features, batch norm not folded, of a model made for images of x's size."""
    options = {"output_stride": 16} if backbone.stride == 16 else {}
    if backbone.plain:
        options = {"img_size": tuple(x.shape[2:])}
    if "swin" in family:
        options = {"dynamic_img_size": True}
    name = backbone.name.replace("efficientnet_lite0", "tf_efficientnet_lite0")
    model = timm.create_model(name, num_classes=0, **options)
    state = backbone.model.state_dict()
    if backbone.plain:
        state = sys.modules[type(model).__module__].checkpoint_filter_fn(state, model)
    model.load_state_dict(state)
    return model.eval().forward_features(x)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_maps_are_timms(nets, family):
    """conv6 is what timm's model gives, at the stride of the table, without class tokens."""
    net, stride = nets(family), FAMILIES[family][2]
    side = max(net.unit, 4 * stride)
    x = torch.randn(1, 3, side, 2 * side, generator=torch.Generator().manual_seed(1))
    conv6 = net.forward_features(x)["conv6"]
    assert net.stride == stride
    assert conv6.shape == (1, net.out_channels, side // stride, 2 * side // stride)
    expected = _timms_features(net, family, x)
    if net.plain:
        if family == "vit, pooled":
            expected = net.model.fc_norm(expected)
        expected = expected[:, net.model.num_prefix_tokens :].transpose(1, 2).reshape(conv6.shape)
    elif expected.ndim == 3:
        expected = expected.transpose(1, 2).reshape(conv6.shape)
    elif expected.shape[1] != net.out_channels:
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(conv6, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_steps_move_every_trainable_weight_and_nothing_frozen(nets, family):
    net = copy.deepcopy(nets(family)).train()
    before = {name: value.clone() for name, value in net.named_parameters()}
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    optimizer, schedule = build_optimizer(net, 1e-2, 5e-4, 0.9, 2)
    batch = {
        "image": torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)),
        "mask": torch.rand(2, 64, 96, generator=torch.Generator().manual_seed(2)) > 0.5,
        "visible": torch.full((2,), 0.5),
        "label": torch.tensor([[1.0, 0, 1], [0, 1, 0]]),
    }
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    trainable = [p for p in net.parameters() if p.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trainable))
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = STEPS["cpn"](net, batch)["loss"]
        loss.backward()
        losses.append(loss.item())
        without = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []
        optimizer.step()
        schedule.step()
    assert all(torch.isfinite(torch.tensor(losses)))
    for name, value in net.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, before[name]), name
    # running statistics of batch norm stay as they are
    for name, value in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, buffers[name]), name
    norms = [m for m in net.model.modules() if isinstance(m, nn.LayerNorm)]
    if net.plain:
        assert norms
        name = "blocks.0.norm1.bias"
        assert not torch.equal(net.model.get_parameter(name), before[f"model.{name}"])


@pytest.mark.parametrize("family", FAMILIES)
def test_cam_of_the_mirror_image_is_the_mirrored_cam_at_four_scales(nets, family):
    net, scales = nets(family), (1.0,) if family in LARGE else (0.5, 1.0, 1.5, 2.0)
    image = torch.randn(3, 75, 101, generator=torch.Generator().manual_seed(1))
    scaled = [
        nn.functional.interpolate(image[None], scale_factor=scale, mode="bilinear")[0]
        for scale in scales
    ]
    keys = torch.tensor([0, 2])
    cam = image_cam(net, scaled, (75, 101), keys, True, True, "fp32")
    mirrored = image_cam(net, [x.flip(-1) for x in scaled], (75, 101), keys, True, True, "fp32")
    assert cam.shape == (2, 75, 101)
    assert cam.max() > 0
    torch.testing.assert_close(
        torch.from_numpy(mirrored[:, :, ::-1].copy()), torch.from_numpy(cam), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_batch_of_two_is_two_of_one(nets, family):
    net = nets(family)
    x = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    together = net(x)
    for index in range(2):
        for one, both in zip(net(x[index : index + 1]), together, strict=True):
            torch.testing.assert_close(
                one[0], both[index], rtol=1e-3, atol=1e-4 * float(both.abs().max())
            )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_checkpoint_is_read_back(nets, family, tmp_path):
    config = {"backbone": FAMILIES[family][0], "num_classes": 3, "output_stride": None}
    save_network(tmp_path / "a.pth", nets(family), config | {"method": "cpn"}, PETS, {})
    x = torch.randn(1, 3, 64, 64)
    read = load_network(tmp_path / "a.pth")[0]
    assert all(torch.equal(one, two) for one, two in zip(read(x), nets(family)(x), strict=True))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in LARGE])
def test_segmentation_trains_on_every_weight(small_timm, family):
    torch.manual_seed(0)
    net = build_seg("deeplabv1", FAMILIES[family][0], 3, head_channels=8).train()
    logits = net(torch.randn(2, 3, 75, 64))
    assert logits.shape == (2, 4, 75, 64)
    logits.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None] == []


# ============ sides, tokens, frozen blocks ============
@pytest.mark.parametrize(("side", "patch", "expected"), [(7, 16, 16), (24, 16, 32), (333, 14, 336)])
def test_sides_go_to_the_nearest_whole_number_of_patches(side, patch, expected):
    assert whole_patches(side, patch) == expected


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in PLAIN])
@pytest.mark.parametrize("size", [(1, 1), (20, 7), (1, 90), (65, 33)])
@torch.no_grad()
def test_maps_cover_images_of_any_sides(nets, family, size):
    """Also of photographs smaller than the stride, and the pixels that a stride would drop."""
    net = nets(family)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    strides = [level["reduction"] for level in net.model.feature_info]
    last, maps = net.last_and_levels(x, list(range(len(strides))))
    for level, stride in zip([last, *maps], [net.stride, *strides], strict=True):
        assert level.shape[2:] == tuple(-(-side // stride) for side in size)
        assert level.isfinite().all()
    if net.unit == 1 and min(size) >= net.stride:
        assert net.fit(x).shape == x.shape


@torch.no_grad()
def test_padding_is_cut_off_again(nets):
    """A pyramid of windows of 256 pixels: the map covers the image alone, and what is cut is that
    of the padded image.
    """
    net = nets("maxvit")
    x = torch.randn(1, 3, 70, 130, generator=torch.Generator().manual_seed(1))
    padded = nn.functional.pad(x, (0, 126, 0, 186))
    maps, whole = net.forward_features(x), net.forward_features(padded)
    assert maps["conv6"].shape[2:] == (3, 5)
    torch.testing.assert_close(maps["conv6"], whole["conv6"][:, :, :3, :5])


@torch.no_grad()
def test_image_of_whole_patches_is_taken_as_it_is(nets):
    net = nets("vit")
    x = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net.fit(x), x)


@pytest.mark.parametrize(
    ("family", "count", "trains", "still"),
    [
        ("vit", 2, "blocks.2.norm1.weight", ("cls_token", "pos_embed", "blocks.1.mlp.fc2.bias")),
        ("vit", 0, "pos_embed", ()),
        ("swin", 1, "layers.1.", ("patch_embed.proj.weight", "layers.0.")),
        ("resnet", 1, "layer1.0.conv1.weight", ("conv1.0.weight",)),
        ("resnet", 2, "layer2.0.conv1.weight", ("layer1.0.conv1.weight",)),
    ],
)
def test_frozen_blocks_and_all_before_them_do_not_train(nets, family, count, trains, still):
    net = copy.deepcopy(nets(family))
    freeze_blocks(net, count)
    training = [name for name, p in net.model.named_parameters() if p.requires_grad]
    assert any(name.startswith(trains) for name in training)
    assert not any(name.startswith(start) for name in training for start in still)
    assert net.fc8.weight.requires_grad


def test_more_frozen_blocks_than_there_are_is_named(nets):
    with pytest.raises(
        InputError, match=r"^--freeze_blocks 9: --backbone vit_tiny_patch16_224 has"
    ):
        freeze_blocks(copy.deepcopy(nets("vit")), 9)


# ============ second expansion ============
def test_irn_takes_a_pyramid_of_five_levels(small_timm):
    net = IRN("mobilenetv4_conv_small_035").eval()
    with torch.no_grad():
        edge, displacement = net(torch.randn(1, 3, 70, 100))
    assert (edge.shape[2:], displacement.shape[1:]) == ((18, 25), (2, 18, 25))
    with pytest.raises(InputError, match="IRN needs"):
        IRN("pvt_v2_b0")


def test_affinity_net_wants_stride_8(small_timm):
    with pytest.raises(InputError, match="has output stride 16, not 8; set --output_stride 16"):
        build_affinity_net("vit_tiny_patch16_224")


# ============ learning ============
def test_a_vit_of_random_weights_learns(nets):
    """Two colours, told apart: the loss falls to less than half."""
    torch.manual_seed(0)
    net = copy.deepcopy(nets("vit")).train()
    image = torch.randn(8, 3, 64, 64) * 0.1
    image[:4, 0] += 1
    image[4:, 2] += 1
    label = torch.zeros(8, 3)
    label[:4, 0], label[4:, 1] = 1, 1
    optimizer, schedule = build_optimizer(net, 1e-2, 0.0, 0.9, 30)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = STEPS["cam"](net, {"image": image, "label": label})["loss"]
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


# ============ attention ============
@pytest.mark.parametrize("family", PLAIN)
@torch.no_grad()
def test_attention_is_a_distribution_over_patches(nets, family):
    net = nets(family)
    attention, size = patch_attention(net, torch.randn(2, 3, 60, 90))
    cells = size[0] * size[1]
    assert size == tuple(net.forward_maps(torch.zeros(1, 3, 60, 90))[-1].shape[2:])
    assert attention.shape == (2, cells, cells)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, cells))
    assert attention.min() >= 0
