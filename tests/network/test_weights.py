"""Weight files: round trips, the authors' plain state dict, backbone weights, and the messages for
files that do not fit.
"""

import copy
import re

import pytest
import torch

from network.build import build_cpn
from network.expansion_weights import build_irn
from network.resnet38 import ResNet38
from network.weights import (
    TIMM_WEIGHTS_HELP,
    WEIGHTS_HELP,
    load_backbone_weights,
    load_network,
    save_network,
    starting_weights,
)
from tests.conftest import PETS
from tool.errors import InputError
from tool.file.checkpoint import save_torch
from voc12.constants import CLASSES

CONFIG = {
    "backbone": "resnet10t",
    "num_classes": 3,
    "output_stride": None,
    "refinement": "pcm+prcm",
    "prcm": "released",
    "method": "cpn",
}


def _same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def saved(small_net, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "small.pth"
    save_network(path, small_net, CONFIG, PETS, {"seed": 3})
    return path


@pytest.fixture
def changed(saved, tmp_path):
    """A function that writes the saved file with other entries, and returns the message that
    load_network raises for it.
    """

    def message(**entries) -> str:
        path = tmp_path / "changed.pth"
        value = torch.load(saved, weights_only=True)
        save_torch(
            path, {name: entry for name, entry in (value | entries).items() if entry is not ...}
        )
        with pytest.raises(InputError) as error:
            load_network(path)
        assert str(path) in str(error.value)
        return str(error.value).replace(str(path), "FILE")

    return message


# ============ our files ============
@torch.no_grad()
def test_loaded_network_computes_the_same_bits(saved, small_net):
    net, config, classes = load_network(saved)
    assert (config, classes) == (CONFIG, PETS)
    assert not net.training
    assert _same(net.state_dict(), small_net.state_dict())
    x = torch.randn(1, 3, 40, 48)
    assert all(torch.equal(one, two) for one, two in zip(net(x), small_net(x), strict=True))


def test_file_holds_plain_contiguous_tensors_and_its_training(tmp_path, small_net):
    net = copy.deepcopy(small_net).to(memory_format=torch.channels_last)
    save_network(tmp_path / "a.pth", net, CONFIG, PETS, {"seed": 3})
    value = torch.load(tmp_path / "a.pth", weights_only=True)
    assert value["training"] == {"seed": 3}
    assert all(tensor.is_contiguous() for tensor in value["state_dict"].values())


def test_another_backbone_is_named(changed):
    message = changed(config=CONFIG | {"backbone": "efficientnet_lite0"})
    assert message.startswith("weights FILE lack ")
    assert message.endswith(
        "tensors of this network, first model.conv_stem.weight; is it another backbone?"
    )


def test_another_class_count_is_named(changed):
    message = changed(config=CONFIG | {"num_classes": 7}, classes=list("abcdefg"))
    assert (
        message
        == "weights FILE: fc8.weight is (4, 512, 1, 1), the network wants (8, 512, 1, 1); other "
        "class list or backbone?"
    )


def test_unknown_tensors_are_named(changed, saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    message = changed(state_dict=state | {"fc9.weight": torch.zeros(1)})
    assert (
        message
        == "weights FILE have unknown 1 tensors of this network, first fc9.weight; is it another "
        "backbone?"
    )


def test_weights_that_are_not_finite_are_refused(changed, saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    state["f9.weight"][0, 0] = torch.nan
    message = changed(state_dict=state)
    assert (
        message
        == "weights FILE: f9.weight has values that are not finite; the file is damaged or its "
        "training diverged"
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_refused(changed, saved, dtype):
    state = torch.load(saved, weights_only=True)["state_dict"]
    message = changed(state_dict={name: value.to(dtype) for name, value in state.items()})
    assert re.fullmatch(
        rf"weights FILE: \S+ is of type {str(dtype)[6:]}, the network wants float32; give the file "
        "as it was before it was quantized or cast",
        message,
    )


def test_doubles_beyond_float32_are_refused(changed, saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    message = changed(state_dict=state | {"f9.weight": state["f9.weight"].double() + 1e300})
    assert message.startswith("weights FILE: f9.weight has values that are not finite; ")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_read(saved, small_net, tmp_path, dtype):
    """Counters too, which `.to(dtype)` over a state dict makes floats of."""
    value = torch.load(saved, weights_only=True)
    state = {name: tensor.to(dtype) for name, tensor in value["state_dict"].items()}
    save_torch(tmp_path / "a.pth", value | {"state_dict": state})
    net = load_network(tmp_path / "a.pth")[0]
    torch.testing.assert_close(net.fc8.weight, small_net.fc8.weight, rtol=0.01, atol=0.01)


def test_something_else_than_a_tensor_is_refused(changed, saved):
    state = torch.load(saved, weights_only=True)["state_dict"]
    message = changed(state_dict=state | {"f9.weight": 3})
    assert (
        message
        == "weights FILE: f9.weight is int, the network wants (192, 195, 1, 1); other class list "
        "or backbone?"
    )


UNDESCRIBED = (
    "trained weights FILE do not describe their network; give a file that train_cpn.py wrote"
)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"config": CONFIG | {"depth": 38}},
            "trained weights FILE have an unknown configuration {",
        ),
        (
            {"config": CONFIG | {"refinement": "pam"}},
            "trained weights FILE have an unknown configuration {",
        ),
        (
            {"config": CONFIG | {"num_classes": 0}, "classes": []},
            "trained weights FILE have an unknown configuration {",
        ),
        ({"classes": ...}, "trained weights FILE name 0 classes for a network of 3"),
        ({"classes": list(PETS[:2])}, "trained weights FILE name 2 classes for a network of 3"),
        (
            {"config": {name: entry for name, entry in CONFIG.items() if name != "method"}},
            UNDESCRIBED,
        ),
        ({"config": [1, 2]}, UNDESCRIBED),
        ({"state_dict": [1, 2]}, UNDESCRIBED),
        (
            {"config": CONFIG | {"method": "irn"}},
            "trained weights FILE are of IRN, which makes no CAM; give weights of train_cpn.py",
        ),
    ],
    ids=range(9),
)
def test_a_damaged_description_of_the_network_is_refused(changed, entries, message):
    assert changed(**entries).startswith(message)


# ============ the authors' file ============
def test_plain_state_dict_of_the_authors_loads(released_weights, formula_state):
    net, config, classes = load_network(released_weights, CLASSES)
    assert classes == CLASSES
    assert config == {"backbone": "resnet38", "num_classes": 20, "method": "cpn"}
    assert _same(net.state_dict(), formula_state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"net": {}},
            "{path} holds no weights: the entries net, none of them a tensor or a state dict",
        ),
        (
            {"fc8.weight": 3},
            "{path} holds no weights: the entries fc8.weight, none of them a tensor or a state "
            "dict",
        ),
        (
            {1: torch.zeros(1)},
            "trained weights {path} are no CPN network: no tensor fc8.weight; backbone weights go "
            "to train_cpn.py",
        ),
        ({}, "{path} holds no weights: no entries, none of them a tensor or a state dict"),
    ],
    ids=["checkpoint", "no tensor", "int", "empty"],
)
def test_a_file_without_cam_head_is_refused(tmp_path, state, message):
    path = tmp_path / "a.pth"
    save_torch(path, state)
    with pytest.raises(InputError) as error:
        load_network(path)
    assert str(error.value) == message.format(path=path)


def test_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "no.pth")
    assert (
        str(error.value)
        == f"trained weights not found: {tmp_path / 'no.pth'}; train with train_cpn.py, or set "
        "--weights FILE"
    )


# ============ backbone weights ============
def test_backbone_weights_leave_the_new_layers_and_name_what_is_not_used(tmp_path, formula_state):
    new = ("fc8", "f8_3", "f8_4", "f9", "f10")
    backbone = {
        name: value for name, value in formula_state.items() if name.split(".")[0] not in new
    }
    # Files converted from MXNet have the ImageNet classifier and lack the counters of batch norm.
    converted = {
        name: value for name, value in backbone.items() if not name.endswith("num_batches_tracked")
    }
    save_torch(tmp_path / "a.pth", converted | {"linear1000.weight": torch.zeros(1)})
    net = build_cpn(num_classes=3)
    before = {
        name: value.clone() for name, value in net.state_dict().items() if name.split(".")[0] in new
    }
    assert load_backbone_weights(net, tmp_path / "a.pth") == ["linear1000.weight"]
    assert _same({name: net.state_dict()[name] for name in before}, before)
    assert _same({name: net.state_dict()[name] for name in backbone}, backbone)

    del converted["b4_3.conv_branch2a.weight"]
    save_torch(tmp_path / "b.pth", converted)
    with pytest.raises(InputError) as error:
        load_backbone_weights(net, tmp_path / "b.pth")
    assert str(error.value) == (
        f"weights {tmp_path / 'b.pth'} lack 1 tensors, first b4_3.conv_branch2a.weight; is it "
        "another network?"
    )


def test_missing_backbone_weights_say_where_to_get_them(tmp_path, small_net):
    with pytest.raises(InputError) as error:
        load_backbone_weights(small_net, tmp_path / "no.params")
    assert str(error.value) == f"weights not found: {tmp_path / 'no.params'}; {TIMM_WEIGHTS_HELP}"
    with torch.device("meta"), pytest.raises(InputError) as error:
        load_backbone_weights(build_cpn(), tmp_path / "no.params")
    assert (
        str(error.value) == f"ResNet38 weights not found: {tmp_path / 'no.params'}; {WEIGHTS_HELP}"
    )


def test_a_trained_network_is_a_start_with_its_new_layers(saved, small_net):
    torch.manual_seed(1)
    net = build_cpn("resnet10t", num_classes=small_net.num_classes)
    assert not torch.equal(net.fc8.weight, small_net.fc8.weight)
    assert load_backbone_weights(net, saved) == []
    assert _same(net.state_dict(), small_net.state_dict())


def test_mxnet_files_are_for_resnet38_only(tmp_path, small_net):
    (tmp_path / "a.params").touch()
    with pytest.raises(InputError) as error:
        load_backbone_weights(small_net, tmp_path / "a.params")
    assert str(error.value) == (
        f"--weights {tmp_path / 'a.params'}: .params files are for --backbone resnet38; others "
        "take imagenet, none or a .pth"
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"config": CONFIG | {"method": ["cpn"]}}, UNDESCRIBED),
        ({"config": CONFIG | {"backbone": 3}}, UNDESCRIBED),
        (
            {"config": CONFIG | {"pretrained": True}},
            "trained weights FILE have an unknown configuration {",
        ),
        ({"config": CONFIG | {"num_classes": "3"}}, UNDESCRIBED),
        ({"classes": 3}, "trained weights FILE: its classes are a int"),
        ({"classes": [3, 4, 5]}, "trained weights FILE: class '3' cannot be part of a file's name"),
        (
            {"config": CONFIG | {"backbone": "x" * 999}},
            "trained weights FILE have an unknown configuration {",
        ),
    ],
    ids=range(7),
)
def test_values_that_nobody_wrote_are_refused(changed, entries, message):
    found = changed(**entries)
    assert found.startswith(message)
    assert len(found) < 2000


def test_a_key_without_a_file_that_has_entries_is_refused(tmp_path):
    for weights in ("imagenet", "none"):
        with pytest.raises(InputError) as error:
            starting_weights("resnet10t", weights, "ema")
        assert str(error.value) == (
            f"--weights_key ema is an entry of a file, and --weights {weights} is none; leave it "
            "out, or give the file"
        )
        with pytest.raises(InputError, match="--weights_key ema is an entry of a file"):
            build_irn("resnet10t", weights, "ema")
    assert starting_weights("resnet10t", "none") == "none"
    (tmp_path / "a.params").write_bytes(b"")
    with pytest.raises(InputError, match=r"--weights_key ema: .*a\.params holds one network"):
        load_backbone_weights(ResNet38(), tmp_path / "a.params", "ema")
