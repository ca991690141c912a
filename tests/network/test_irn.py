"""IRN's network against the released code's arrays, its checkpoint names, and what trains."""

import json
import zlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from network.irn import IRN, STRIDES, infer_edge, load_irn_weights, mean_displacement
from tests.reference import PARITY, load_arrays, relative_error
from tool.errors import InputError
from tool.expand.expansion_losses import irn_loss

KEYS = json.loads((PARITY / "stages" / "irn_state_dict_keys.json").read_text())


def _formula_tensor(name, shape):
    """The reference value of the released network's tensor `name` (rule in the arrays' README)."""
    if name == "mean_shift.running_mean":
        return torch.zeros(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    n = (
        np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
        .standard_normal(shape)
        .astype(np.float32)
    )
    if len(shape) == 4:
        gain = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        return torch.from_numpy(
            n * gain * np.float32(0.25 if name.split(".")[-2] == "conv3" else 1)
        )
    tenth = np.float32(0.1) * n
    kind = name.rsplit(".", 1)[1]
    return torch.from_numpy({"weight": 1 + tenth, "running_var": np.exp(tenth)}.get(kind, tenth))


@pytest.fixture(scope="module")
def released_state():
    """A state dict as the released training network saves it: every alias, and its buffers."""
    tensors = {source: _formula_tensor(source, shape) for _, shape, _, source in KEYS}
    state = {name: tensors[source] for name, _, _, source in KEYS}
    return state | {
        "path_indices_0": torch.zeros(3, dtype=torch.int64),
        "disp_target": torch.zeros(2, 152, 1),
    }


@pytest.fixture(scope="module")
def net(released_state):
    net = IRN()
    load_irn_weights(net, released_state)
    return net.eval()


@pytest.fixture(scope="module")
def arrays():
    return load_arrays("stages/irn_net")


def test_names_are_the_released_ones_once_each(net):
    released = {source.replace("resnet50.", "backbone."): shape for _, shape, _, source in KEYS}
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == released
    assert sum(p.numel() for p in net.parameters()) == 24_902_561
    assert sum(p.numel() for p in net.backbone.parameters()) == 23_508_032
    assert sum(p.numel() for layer in net.edge_layers() for p in layer.parameters()) == 125_409
    assert (
        sum(p.numel() for layer in net.displacement_layers() for p in layer.parameters())
        == 1_269_120
    )


@torch.no_grad()
def test_stages_match_the_released_ones(net, arrays):
    for index, level in enumerate(net.backbone(torch.from_numpy(arrays["x"]))):
        np.testing.assert_array_equal(level.shape, arrays["stage_shapes"][index])
        assert level.std(correction=0).item() == pytest.approx(arrays["stage_std"][index], rel=1e-4)
        assert (
            relative_error(level.mean(dim=(0, 2, 3)), arrays[f"stage{index + 1}_channel_mean"])
            < 1e-4
        )


@torch.no_grad()
@pytest.mark.parametrize(("image", "suffix"), [("x", ""), ("image", "_odd")])
def test_outputs_match_the_released_ones(net, arrays, image, suffix):
    """`_odd`: sides that 16 does not divide, where the upsampled maps are cropped."""
    x = torch.from_numpy(arrays[image])
    edge, displacement = net(x if x.ndim == 4 else x[None])
    assert relative_error(edge, arrays[f"edge_out{suffix}"]) < 1e-4
    assert relative_error(displacement, arrays[f"dp_out{suffix}"]) < 1e-4


def test_inference_matches_the_released_one(net, arrays):
    image, crop = torch.from_numpy(arrays["image"]), int(arrays["crop_size"])
    edge, displacement = infer_edge(net, image, crop)
    assert relative_error(edge, arrays["edge_tta"]) < 1e-4
    assert relative_error(displacement, arrays["dp_tta"]) < 1e-4
    pair = torch.stack([image, image.flip(2)])
    with torch.no_grad():
        logits, _ = net(F.pad(pair, (0, crop - image.shape[2], 0, crop - image.shape[1])))
    assert relative_error(logits, arrays["edge_logits_padded"]) < 1e-4


def test_image_larger_than_the_crop_is_not_cut(net, arrays):
    """Both sides longer than the crop are padded to multiples of 16: 90 x 110 as with zeros up to
    96 x 112.
    """
    image = torch.from_numpy(arrays["image"])
    edge, displacement = infer_edge(net, image, crop_size=64)
    assert edge.shape == (1, 23, 28)
    with torch.no_grad():
        logits, dp = net(F.pad(torch.stack([image, image.flip(2)]), (0, 2, 0, 6)))
    expected = torch.sigmoid((logits[0, :, :23, :28] + logits[1, :, :23, :28].flip(2)) / 2)
    torch.testing.assert_close(edge, expected)
    torch.testing.assert_close(displacement, dp[0, :, :23, :28])


def test_own_checkpoint_loads_back(net):
    other = IRN()
    load_irn_weights(other, net.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("fc_edge6.bias", None, r"fc_edge6.bias has no such tensor, the network shape \(1,\)"),
        (
            "fc_edge6.bias",
            torch.zeros(3),
            r"fc_edge6.bias has shape \(3,\), the network shape \(1,\)",
        ),
        ("surplus", torch.zeros(3), r"surplus has shape \(3,\), the network no such tensor"),
    ],
)
def test_weights_that_do_not_fit_are_named(net, released_state, name, given, message):
    state = {key: value for key, value in released_state.items() if key != name} | (
        {} if given is None else {name: given}
    )
    with pytest.raises(
        InputError, match=f"^IRN weights do not fit: {message}; give a checkpoint of this backbone$"
    ):
        load_irn_weights(net, state)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(1, dtype=torch.int8), "is of type int8, the network wants float32; "),
        (torch.full((1,), torch.nan), "has values that are not finite; "),
    ],
)
def test_values_that_cannot_be_taken_over_are_named(net, released_state, given, message):
    with pytest.raises(InputError, match=f"^fc_edge6.bias {message}"):
        load_irn_weights(net, released_state | {"fc_edge6.bias": given})


@pytest.fixture(scope="module")
def small():
    """IRN on a small timm model, whose first level has stride 2."""
    torch.manual_seed(0)
    return IRN("resnet10t")


def test_training_step_moves_the_branches_alone(small):
    small.train()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    parameters = [
        p for layer in small.edge_layers() + small.displacement_layers() for p in layer.parameters()
    ]
    assert {id(p) for p in parameters} == {id(p) for p in small.parameters() if p.requires_grad}
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    edge, displacement = small(torch.randn(2, 3, 64, 64))
    label = torch.from_numpy(
        np.random.default_rng(0).integers(0, 2, size=(2, 16, 16)).astype(np.uint8)
    )
    irn_loss(edge, displacement, label, radius=5)["total_loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    optimiser.step()
    for name, value in small.state_dict().items():
        frozen = name.startswith(("backbone.", "mean_shift."))
        assert torch.equal(value, before[name]) == frozen, name


@torch.no_grad()
def test_mean_shift_acts_in_eval_mode_only(small):
    x = torch.randn(2, 3, 64, 48)
    small.mean_shift.running_mean.zero_()
    raw = small.train()(x)[1]
    torch.testing.assert_close(
        mean_displacement(small, [x, x[:1]]),
        torch.stack([raw.mean((0, 2, 3)), raw[:1].mean((0, 2, 3))]).mean(0),
    )
    small.mean_shift.running_mean.copy_(torch.tensor([0.5, -2.0]))
    torch.testing.assert_close(small(x)[1], raw)
    torch.testing.assert_close(small.eval()(x)[1], raw - torch.tensor([0.5, -2.0]).view(1, 2, 1, 1))
    expected = raw.mean((0, 2, 3))
    torch.testing.assert_close(mean_displacement(small, [x]), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_timm_levels_agree_with_the_released_backbone(net, arrays):
    """timm's ResNet50 with the same weights gives the same first four levels; the fifth is dilated
    there.
    """
    timm_net = IRN("resnet50.a1_in1k").backbone
    timm_net.model.load_state_dict(net.backbone.state_dict())
    x = torch.from_numpy(arrays["x"])
    ours, theirs = net.backbone(x), timm_net.eval()(x)
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        # folding batch norm rounds otherwise
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(a.max()))
    assert tuple(96 // level.shape[2] for level in theirs) == STRIDES


def test_backbone_with_other_levels_is_named():
    message = (
        r"--backbone convnext_atto has features at strides \(4, 8, 16, 16\), IRN needs \(2, 4, 8, "
        r"16, 16\)"
    )
    with pytest.raises(InputError, match=message):
        IRN("convnext_atto")
