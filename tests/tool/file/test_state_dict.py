"""State dicts in every wrapping give the same tensors; what could be meant in two ways is asked."""

import argparse
import re

import pytest
import torch
from safetensors.torch import save_file

from tool.errors import InputError
from tool.file.state_dict import find_signed, find_state, read_weights, save_weights

OWN = {"conv.weight": torch.arange(6.0).view(2, 3), "bn.bias": torch.ones(2)}


def _same(state):
    return state.keys() == OWN.keys() and all(torch.equal(state[name], OWN[name]) for name in OWN)


def _prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in OWN.items()}


@pytest.mark.parametrize(
    "value",
    [
        OWN,
        _prefixed("module."),
        _prefixed("module.backbone."),
        _prefixed("backbone.model."),
        {"state_dict": OWN},
        {"model": _prefixed("module."), "epoch": 3},
        {"model_state_dict": OWN, "optimizer": {"lr": 0.1}},
        {"teacher": _prefixed("backbone."), "epoch": 1},
        {"a": {"b": {"state_dict": _prefixed("_orig_mod.module.")}}},
        {0: {1: OWN}},
        {"a": {"b": {"c": {"model": OWN}}}},
        {"epoch": 3, "state_dict": _prefixed("module."), "best_acc1": torch.tensor(71.0)},
        {"model": OWN, "rng_state": torch.zeros(99, dtype=torch.uint8), "best": torch.ones(1)},
        {"state_dict": OWN, "optimizer": {"state": {0: {"exp_avg": OWN}}, "param_groups": []}},
        {"model": OWN, "optimizers": {"a": {"state": {0: OWN}, "param_groups": []}}},
        {"state_dict": OWN, "callbacks": {"best": {"best_model_score": torch.tensor(0.3)}}},
        OWN | {"extra": {"mean": torch.zeros(3)}},
    ],
    ids=range(17),
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_wrappings(tmp_path, value, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save(value, path)
    else:
        save_weights(path, {"state_dict": find_state(value, path)})
    found = find_state(read_weights(path), path, OWN)
    assert _same(found)


def test_names_that_fit_are_not_stripped():
    own = _prefixed("backbone.")
    assert find_state(own, "a.pth", own).keys() == own.keys()


def test_other_tensors_keep_their_names():
    state = _prefixed("module.") | {"module.head.weight": torch.zeros(1), "step": torch.zeros(1)}
    assert set(find_state(state, "a.pth", OWN)) == {*OWN, "head.weight", "step"}


@pytest.mark.parametrize(
    ("value", "message", "key"),
    [
        (
            {"model": OWN, "model_ema": OWN},
            "--weights_key model or --weights_key model_ema",
            "model",
        ),
        ({"teacher": OWN, "student": OWN}, "--weights_key teacher or --weights_key stu", "student"),
        ({"x": {"a": OWN, "b": OWN}}, "--weights_key x.a or --weights_key x.b", "x.b"),
    ],
)
def test_two_state_dicts_are_asked(value, message, key):
    with pytest.raises(InputError, match=r"a\.pth holds 2 state dicts; say which: " + message):
        find_state(value, "a.pth", OWN)
    assert _same(find_state(value, "a.pth", OWN, key))
    with pytest.raises(InputError, match=r"--weights_key none: a\.pth has the entries "):
        find_state(value, "a.pth", OWN, "none")


OTHER = {name: tensor + 1 for name, tensor in OWN.items()}


@pytest.mark.parametrize("where", ["", "state_dict."])
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("student", "teacher"),
        ("teacher", "student"),
        ("model", "model_ema"),
        ("backbone", "model"),
        ("module.encoder_q", "module.encoder_k"),
    ],
)
def test_two_networks_in_one_dict_are_asked(where, one, two):
    flat = _prefixed(f"{one}.") | {f"{two}.{name}": tensor for name, tensor in OTHER.items()}
    flat |= {"queue": torch.zeros(9)}
    value = {"state_dict": flat, "epoch": 3} if where else flat
    message = f"a.pth holds 2 networks; say which: --weights_key {where}{one} or --weights_key "
    with pytest.raises(InputError) as error:
        find_state(value, "a.pth", OWN)
    assert str(error.value) == f"{message}{where}{two}"
    with pytest.raises(InputError) as error:
        find_signed(value, "a.pth", "conv.weight")
    assert str(error.value) == f"{message}{where}{two}"
    for key, expected in ((one, OWN), (two, OTHER)):
        for found in (
            find_state(value, "a.pth", OWN, where + key),
            find_signed(value, "a.pth", "conv.weight", where + key),
        ):
            assert all(torch.equal(found[name], expected[name]) for name in OWN)


def test_a_network_beside_a_smaller_one_and_beside_its_copy_is_found():
    """A head of another network under a prefix of its own; the names without prefix come first."""
    state = _prefixed("model.") | {"aux.bn.bias": torch.zeros(2)}
    assert find_state(state, "a.pth", OWN)["bn.bias"] is OWN["bn.bias"]
    state = _prefixed("model.backbone.") | _prefixed("model.encoder.")  # one under two names
    assert find_state(state, "a.pth", OWN)["bn.bias"] is OWN["bn.bias"]
    state = {f"ema.{name}": tensor for name, tensor in OTHER.items()} | OWN
    assert find_state(state, "a.pth", OWN)["bn.bias"] is OWN["bn.bias"]
    assert torch.equal(find_state(state, "a.pth", OWN, "ema")["bn.bias"], OTHER["bn.bias"])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["sparse", "quantized", "nested", "without values"])
def test_tensors_that_are_not_dense_are_refused(tmp_path, kind):
    tensor = OWN["conv.weight"]
    if kind == "nested":
        tensor = torch.nested.nested_tensor(list(tensor))
    elif kind == "quantized":
        tensor = torch.quantize_per_tensor(tensor, 1.0, 0, torch.qint8)
    else:
        tensor = tensor.to_sparse() if kind == "sparse" else tensor.to("meta")
    torch.save({"model": OWN | {"conv.weight": tensor}}, tmp_path / "a.pth")
    with pytest.raises(
        InputError, match=rf"a\.pth: conv\.weight is {kind}.*; give a file of dense"
    ):
        find_state(read_weights(tmp_path / "a.pth"), "a.pth", OWN)


def test_the_state_of_a_loss_is_no_network():
    model = {f"{i}.weight": torch.zeros(2) for i in range(11)}
    value = {"dino_loss": {"center": torch.zeros(9)}, "model": model}
    assert find_state(value, "a.pth").keys() == model.keys()
    assert find_state(value, "a.pth", key="dino_loss").keys() == {"center"}


def test_a_session_s_checkpoint_names_the_weights(tmp_path):
    value = {"net": OWN, "optimizer": {}, "schedule": {}, "settings": {"session_name": "run"}}
    with pytest.raises(InputError, match=f"its weights are in {tmp_path / 'run.pth'} when the"):
        find_state(value, tmp_path / "checkpoint.pth", OWN)


def test_a_python_object_is_named_in_one_line(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": OWN, "args": argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(InputError) as error:
        read_weights(path)
    assert str(error.value) == (
        f"weights {path} holds a Python object, argparse.Namespace, which could run code when it "
        "is loaded, so it is not read; give a file of the state dict alone"
    )


def test_safetensors_hold_what_a_pth_holds(tmp_path):
    value = {"state_dict": OWN, "config": {"method": "cpn", "n": 2}, "classes": ["cat", 'o"wl']}
    save_weights(tmp_path / "a.safetensors", value)
    found = read_weights(tmp_path / "a.safetensors")
    assert _same(found.pop("state_dict"))
    assert found == {"config": value["config"], "classes": value["classes"]}


@pytest.mark.parametrize(
    "data",
    [b"\x10\0\0\0\0\0\0\0{not json at all", b"\xff" * 7 + b"\x7f{", b"\x02\0\0\0\0\0\0\0{}x"],
)
def test_damaged_safetensors(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^cannot read weights {re.escape(str(path))}: "):
        read_weights(path)


def test_a_dict_in_a_thousand_places_costs_no_time():
    """Gone through place by place, these are 10 ** 12 entries."""
    value = {str(i): i for i in range(1000)}
    for _ in range(3):
        value = dict.fromkeys(map(str, range(1000)), value)
    with pytest.raises(InputError, match=r"a\.pth holds no weights"):
        find_state(value, "a.pth")


def test_metadata_nested_too_deep_is_named(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(OWN, path, {"cpn": "[" * 100_000})
    with pytest.raises(InputError, match=r"a\.safetensors: .*; the safetensors file is damaged"):
        read_weights(path)
