"""Parameter groups and the poly schedule against the released optimiser's arrays."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from network.build import build_cpn
from tests.reference import load_arrays, relative_error
from tool.choices import RELEASED_MOMENTUM
from tool.schedule import (
    build_optimizer,
    parameter_groups,
    poly_factor,
    poly_optimizer,
    warm_poly_factor,
)

MAX_STEP = 20


class _Toy(nn.Module):
    """A pretrained and a new 1x1 convolution with bias: one scalar in each of the four groups."""

    def __init__(self) -> None:
        super().__init__()
        self.old, self.new = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def pretrained_modules(self):
        return [self.old]

    def new_modules(self):
        return [self.new]


@pytest.fixture(scope="module")
def arrays():
    return load_arrays("schedule")


def _optimizer(net: nn.Module):
    return build_optimizer(
        net, lr=0.01, weight_decay=5e-4, momentum=RELEASED_MOMENTUM, max_step=MAX_STEP
    )


def test_learning_rates_and_updates_match_the_released_ones(arrays):
    net = _Toy()
    optimizer, schedule = _optimizer(net)
    rates, values = [], []
    for _ in range(MAX_STEP + 1):
        rates.append([group["lr"] for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.detach().clone()  # that of parameter ** 2 / 2, from 1 on
        optimizer.step()
        schedule.step()
        values.append([group["params"][0].item() for group in optimizer.param_groups])
    assert relative_error(np.array(rates), arrays["lr"]) < 1e-6
    np.testing.assert_allclose(values, arrays["toy_param"], rtol=1e-5)


def test_momentum_and_weight_decay_match_the_released_ones(arrays):
    optimizer, _ = _optimizer(_Toy())
    np.testing.assert_allclose(
        [group["momentum"] for group in optimizer.param_groups], arrays["momentum"]
    )
    np.testing.assert_allclose(
        [group["weight_decay"] for group in optimizer.param_groups], arrays["weight_decay"]
    )


def _sizes(net: nn.Module) -> list[list[int]]:
    groups = parameter_groups(net, lr=0.01, weight_decay=5e-4)
    return [
        [len(group["params"]) for group in groups],
        [sum(p.numel() for p in group["params"]) for group in groups],
    ]


def test_group_sizes_match_the_released_ones_before_and_after_freezing(arrays):
    with torch.device("meta"):
        net = build_cpn()
    assert _sizes(net) == [
        arrays["group_tensors_after_train"].tolist(),
        arrays["group_numel_after_train"].tolist(),
    ]
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.requires_grad_(True)
    assert _sizes(net) == [
        arrays["group_tensors_before_train"].tolist(),
        arrays["group_numel_before_train"].tolist(),
    ]


@pytest.mark.parametrize("backbone", ["resnet38", "resnet10t", "efficientnet_lite0"])
def test_every_trainable_parameter_is_in_exactly_one_group(backbone, small_net):
    if backbone == "resnet38":
        with torch.device("meta"):
            net = build_cpn()
    else:
        net = small_net if backbone == "resnet10t" else build_cpn(backbone)
    grouped = [
        id(p)
        for group in parameter_groups(net, lr=0.01, weight_decay=5e-4)
        for p in group["params"]
    ]
    assert len(grouped) == len(set(grouped))
    trainable = {id(p): name for name, p in net.named_parameters() if p.requires_grad}
    assert set(grouped) == set(trainable)


def test_batch_norm_is_in_no_group(small_net):
    net = copy.deepcopy(small_net).requires_grad_(True)
    grouped = {
        id(p)
        for group in parameter_groups(net, lr=0.01, weight_decay=5e-4)
        for p in group["params"]
    }
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not grouped & {id(p) for norm in norms for p in norm.parameters()}


def test_poly_factor_at_first_middle_last_step_and_beyond():
    assert poly_factor(0, 10) == 1
    assert poly_factor(5, 10) == pytest.approx(0.5**0.9)
    assert poly_factor(9, 10) == pytest.approx(0.1**0.9)
    assert poly_factor(10, 10) == poly_factor(9, 10)
    assert poly_factor(5, 10, power=2) == pytest.approx(0.25)
    assert poly_factor(0, 1) == 1


def test_schedule_continues_from_its_state():
    _, whole = _optimizer(_Toy())
    optimizer, schedule = _optimizer(_Toy())
    for _ in range(7):
        whole.optimizer.step()
        whole.step()
    schedule.load_state_dict(whole.state_dict())
    optimizer.load_state_dict(whole.optimizer.state_dict())
    for one in (whole, schedule):
        one.optimizer.step()
        one.step()
    assert schedule.get_last_lr() == whole.get_last_lr()


def test_new_factor_sets_the_rates_of_new_layers_alone():
    rates = [
        group["lr"] for group in parameter_groups(_Toy(), lr=0.01, weight_decay=5e-4, new_factor=3)
    ]
    assert rates == pytest.approx([0.01, 0.02, 0.03, 0.06])


def test_refinement_factor_takes_the_refinement_out_of_the_new_layers():
    with torch.device("meta"):
        net = build_cpn("efficientnet_lite0", 3)
    groups = {
        group["name"]: group
        for group in parameter_groups(net, lr=0.01, weight_decay=5e-4, refinement_factor=0.5)
    }
    assert groups["new weights"]["params"] == [net.fc8.weight]
    assert groups["refinement weights"]["lr"] == pytest.approx(0.005)
    assert groups["refinement weights"]["weight_decay"] == 5e-4
    assert {id(p) for p in groups["refinement weights"]["params"]} == {
        id(layer.weight) for layer in (net.f8_3, net.f8_4, net.f9, net.f10)
    }


def test_warm_up_rises_to_the_poly_schedule():
    factors = [warm_poly_factor(step, 10, warmup=3) for step in range(10)]
    assert factors[:3] == [(step + 1) / 4 * poly_factor(step, 10) for step in range(3)]
    assert factors[3:] == [poly_factor(step, 10) for step in range(3, 10)]
    assert [warm_poly_factor(step, 10) for step in range(10)] == [
        poly_factor(step, 10) for step in range(10)
    ]


def test_adamw_takes_the_groups_rates_and_decays():
    layer = torch.nn.Linear(2, 2)
    groups = [
        {"params": [layer.weight], "lr": 0.1, "weight_decay": 0.5},
        {"params": [layer.bias], "lr": 0.2, "weight_decay": 0.0},
    ]
    optimizer, schedule = poly_optimizer(groups, 0.9, 10, optimizer="adamw", warmup=1)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.1])
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    # AdamW's first step moves each weight by lr, after a decay of lr times weight_decay
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 0.05 * 0.5) - 0.05)
