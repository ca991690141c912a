"""Weight files of others: what they wrap tensors in, prefixes, safetensors, and timm's
conversions.
"""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file

from network.build import build_cpn
from network.irn import ResNet50Levels
from network.seg import build_seg
from network.seg_weights import load_seg_backbone
from network.weights import load_backbone_weights, timm_names
from tool.errors import InputError
from tool.file.checkpoint import save_torch

VIT = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def vit_state():
    """timm's state dict of a ViT with its classifier."""
    torch.manual_seed(1)
    return timm.create_model(VIT, num_classes=7).state_dict()


@pytest.fixture
def net():
    return build_cpn(VIT, num_classes=3)


def _same(net, state):
    own = net.model.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own)


def _prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 299},  # DeiT, MAE
        lambda state: {"state_dict": _prefixed(state, "module.")},
        lambda state: _prefixed(state, "backbone."),
        lambda state: {"model": {"state_dict": _prefixed(state, "module.encoder.")}},
    ],
    ids=["timm", "deit", "module", "backbone", "nested"],
)
def test_wrappings_and_prefixes_of_the_field(net, vit_state, tmp_path, wrap):
    torch.save(wrap(vit_state), tmp_path / "a.pth")
    unused = load_backbone_weights(net, tmp_path / "a.pth")
    assert _same(net, vit_state)
    assert {"model.head.weight", "model.head.bias"} <= set(unused)


def test_safetensors(net, vit_state, tmp_path):
    save_file(vit_state, tmp_path / "model.safetensors")
    load_backbone_weights(net, tmp_path / "model.safetensors")
    assert _same(net, vit_state)


def test_dinos_teacher_and_student_are_asked(net, vit_state, tmp_path):
    """DINO's full checkpoint; the teacher is what DINO itself evaluates."""
    other = {name: tensor + 1 for name, tensor in vit_state.items()}
    save_torch(
        tmp_path / "a.pth",
        {
            "student": _prefixed(other, "module.backbone."),
            "teacher": _prefixed(vit_state, "backbone.") | {"head.mlp.0.weight": torch.zeros(2)},
            "optimizer": {"state": {}, "param_groups": []},
            "epoch": 100,
        },
    )
    with pytest.raises(InputError, match="--weights_key student or --weights_key teacher"):
        load_backbone_weights(net, tmp_path / "a.pth")
    load_backbone_weights(net, tmp_path / "a.pth", "teacher")
    assert _same(net, vit_state)
    load_backbone_weights(net, tmp_path / "a.pth", "student")
    assert _same(net, other)


@pytest.mark.parametrize(
    ("one", "two"), [("student", "teacher"), ("model", "model_ema"), ("backbone", "model")]
)
def test_two_networks_in_one_dict_are_asked(net, vit_state, tmp_path, one, two):
    """`model.` is where the network itself has its timm model, which is no reason to take it."""
    other = {name: tensor + 1 for name, tensor in vit_state.items()}
    flat = _prefixed(vit_state, f"{one}.") | _prefixed(other, f"{two}.")
    save_torch(tmp_path / "a.pth", {"state_dict": flat, "best_acc1": torch.tensor(71.0)})
    keys = [f"--weights_key state_dict.{name}" for name in (one, two)]
    seg = build_seg("deeplabv1", VIT, 3, head_channels=8)
    for start in (
        lambda key=None: load_backbone_weights(net, tmp_path / "a.pth", key),
        lambda key=None: load_seg_backbone(seg, tmp_path / "a.pth", key),
    ):
        with pytest.raises(InputError, match=f"holds 2 networks; say which: {' or '.join(keys)}$"):
            start()
        start(f"state_dict.{two}")
    assert _same(net, other)
    assert _same(seg.backbone, other)


def test_dinov2s_own_file(tmp_path):
    """register_tokens, mask_token, and positions that include the class token, of another size."""
    torch.manual_seed(2)
    options = {"depth": 2, "embed_dim": 96, "num_classes": 0}
    model = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=224, **options)
    state = {k: v for k, v in model.state_dict().items() if k != "reg_token"}
    positions = torch.randn(1, 1 + 37 * 37, 96)
    own = state | {
        "register_tokens": torch.randn(1, 4, 96),
        "mask_token": torch.zeros(1, 96),
        "pos_embed": positions,
    }
    fitted = timm_names(model, own)
    assert {k: v.shape for k, v in fitted.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert torch.equal(fitted["reg_token"], own["register_tokens"])
    assert torch.equal(fitted["cls_token"], state["cls_token"] + positions[:, 0])
    assert torch.equal(fitted["blocks.1.mlp.fc1.weight"], state["blocks.1.mlp.fc1.weight"])


def test_positions_of_another_image_size_are_resized(net, vit_state, tmp_path):
    larger = timm.create_model(VIT, img_size=384, num_classes=0).state_dict()
    larger |= {k: v for k, v in vit_state.items() if k != "pos_embed"}
    save_torch(tmp_path / "a.pth", larger)
    load_backbone_weights(net, tmp_path / "a.pth")
    expected = timm.layers.resample_abs_pos_embed(larger["pos_embed"], (14, 14), (24, 24))
    torch.testing.assert_close(net.model.pos_embed, expected)


def test_torchvisions_resnet_fits_timms(tmp_path):
    torch.manual_seed(3)
    state = ResNet50Levels().state_dict()
    net = build_seg("deeplabv1", "resnet50", 3, head_channels=8)
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    save_torch(tmp_path / "resnet50.pth", state)
    load_seg_backbone(net, tmp_path / "resnet50.pth")
    assert torch.equal(net.backbone.model.layer4[2].conv3.weight, state["layer4.2.conv3.weight"])


def test_segmentation_takes_the_same_files(vit_state, tmp_path):
    net = build_seg("deeplabv1", VIT, 3, head_channels=8)
    save_torch(tmp_path / "a.pth", {"model": _prefixed(vit_state, "module.")})
    load_seg_backbone(net, tmp_path / "a.pth")
    own = net.backbone.model.state_dict()
    assert all(torch.equal(own[name], vit_state[name]) for name in own)


def test_another_network_is_named(net, tmp_path):
    state = timm.create_model("deit_small_patch16_224", num_classes=0).state_dict()
    save_torch(tmp_path / "a.pth", state)
    with pytest.raises(InputError, match=r"model\.cls_token is \(1, 1, 384\), the network wants"):
        load_backbone_weights(net, tmp_path / "a.pth")
    cut = copy.copy(state)
    del cut["blocks.3.norm1.weight"]
    save_torch(tmp_path / "b.pth", cut)
    with pytest.raises(InputError, match=r"lack 1 tensors, first model\.blocks\.3\.norm1\.weight"):
        load_backbone_weights(net, tmp_path / "b.pth")


def test_names_that_fit_are_left_and_foreign_ones_too():
    model = timm.create_model("resnet10t", num_classes=0)
    state = model.state_dict()
    assert timm_names(model, state) is state
    foreign = {"a.weight": torch.zeros(1)}
    assert timm_names(model, foreign) == foreign
