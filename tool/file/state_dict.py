"""State dicts as people have them: wrapped, with prefixes, as torch files or safetensors, read
without running anything in them.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise_safetensors
from torch import Tensor

from tool.errors import InputError
from tool.file.atomic import atomic_write
from tool.file.checkpoint import load_torch, save_torch
from tool.file.require import require_file

SAFETENSORS = ".safetensors"
METADATA = "cpn"  # the entry of a safetensors file's metadata that holds what a .pth holds beside
# What wrappers and training loops put before the names of a network's own tensors.
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "base_model.",
    "student.",
    "teacher.",
)
MAX_PREFIXES = 3
MAX_DEPTH = 4  # dicts around a state dict
FEW = 10  # a network has at least a tenth of the tensors of another
OPTIMIZER = {"state", "param_groups"}  # the entries of every optimizer's state
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
NAMED = 4  # entries that a message names


class SeveralError(InputError):
    """A file with several state dicts, and no --weights_key; keys: of the first NAMED of them."""

    def __init__(self, message: str, keys: list[str]) -> None:
        super().__init__(message)
        self.keys = keys


def save_weights(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write {"state_dict": tensors, ...}: a torch file, or safetensors by the suffix, whose
    metadata then holds all but the tensors.
    """
    if Path(path).suffix != SAFETENSORS:
        save_torch(path, dict(value))
        return
    beside = {name: entry for name, entry in value.items() if name != "state_dict"}
    tensors = {name: tensor.contiguous() for name, tensor in value["state_dict"].items()}
    with atomic_write(path) as file:
        file.write(serialise_safetensors(tensors, {METADATA: json.dumps(beside)}))


def read_weights(path: str | Path, name: str = "weights", hint: str = "check the path") -> dict:
    """What a torch file or a safetensors file holds, the latter as save_weights was given it, or
    its tensors. Told apart by content. Raises InputError naming the file, `name`: what it is.
    """
    path = require_file(path, name, hint)
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9 or head[8:9] != b"{":
        return load_torch(path, name, hint)
    data = path.read_bytes()
    try:
        tensors = parse_safetensors(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        beside = json.loads(header.get("__metadata__", {}).get(METADATA, "null"))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"cannot read {name} {path}: {str(error).splitlines()[0][:160]}; the safetensors file "
            "is damaged"
        ) from error
    return tensors if not isinstance(beside, dict) else beside | {"state_dict": tensors}


def read_training(path: str | Path) -> dict[str, Any]:
    """What a trained network's file says of its training; {} where it says nothing."""
    training = read_weights(path).get("training")
    return training if isinstance(training, dict) else {}


def require_no_session(value: Mapping[str, Any], path: str | Path) -> None:
    """Raise InputError for the checkpoint of a training session, naming the file of its weights."""
    if {"net", "optimizer", "schedule", "settings"} <= set(value):
        folder = Path(path).parent
        name = value["settings"].get("session_name", folder.name)
        raise InputError(
            f"{path} is the checkpoint that a training continues from; its weights are in "
            f"{folder / f'{name}.pth'} when the training has ended"
        )


def find_state(
    value: Mapping[str, Any],
    path: str | Path,
    own: Mapping[str, Tensor] | None = None,
    key: str | None = None,
) -> dict[str, Tensor]:
    """The state dict in what a file holds, unwrapped; its names as the network's, if own is given.

    own: the network's state dict; prefixes go as far as that makes more tensors fit
    key: the entry to take where there are several ("model.ema" for one inside another), or the
         prefix of names where one dict holds several networks
    Raises InputError naming the file where it holds no tensors, tensors of no plain kind, or
    several state dicts and no key.
    """
    state, where = _found(value, path, key)
    if own is None:
        return state
    _require_one_network(state, own, path, where)
    return _fitting(state, own)


def find_signed(
    value: Mapping[str, Any], path: str | Path, sign: str, key: str | None = None
) -> dict[str, Tensor]:
    """find_state without the prefix that the tensor `sign`, if it has one, has there. Raises
    InputError where several prefixes have one, and no key says which.
    """
    state, where = _found(value, path, key)
    prefixes = [name.removesuffix(sign) for name in state if f".{name}".endswith(f".{sign}")]
    if "" in prefixes or not prefixes:
        return state
    _require_one(prefixes, "networks", path, where)
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items()}


def _found(
    value: Mapping[str, Any], path: str | Path, key: str | None
) -> tuple[dict[str, Tensor], str]:
    """(state dict, where it is: what a key to a part of it begins with)."""
    require_no_session(value, path)
    for part in key.split(".") if key else ():
        chosen = _part(value, part)
        if chosen is None:
            raise InputError(f"--weights_key {key}: {path} has {_shown(_wrapped(value) or value)}")
        value = chosen
    state, where = _unwrapped(value, path, f"{key}." if key else "")
    for name, tensor in state.items():
        if fault := kind_fault(tensor):
            raise InputError(f"weights {path}: {name} {fault}")
    return state, where


def _require_one(names: Sequence[str], what: str, path: str | Path, where: str) -> None:
    """Raise SeveralError with the --weights_key of each of names, entries or prefixes behind where,
    if there are several.
    """
    if len(names) > 1:
        keys = [f"{where}{name}".removesuffix(".") for name in names[:NAMED]]
        flags = " or ".join(f"--weights_key {key}" for key in keys)
        raise SeveralError(f"{path} holds {len(names)} {what}; say which: {flags}", keys)


def kind_fault(tensor: Tensor) -> str | None:
    """Why a tensor of a file has not all its numbers one by one, to go after its name; None where
    it has.
    """
    kinds = {
        "nested": tensor.is_nested,
        "sparse": not tensor.is_nested and tensor.layout != torch.strided,
        "without values (of torch's meta device)": tensor.is_meta,
        "quantized": tensor.is_quantized,
    }
    kind = next((kind for kind, is_so in kinds.items() if is_so), None)
    return kind and f"is {kind}; give a file of dense float tensors"


def values_fault(tensor: Tensor, own: Tensor) -> str | None:
    """Why a tensor's numbers are none that own, the network's, can take over, to go after its name;
    None where they are: floating ones where own has floating ones, floating or whole ones where it
    has whole ones, all of them finite.
    """
    taken = FLOATS if own.is_floating_point() else FLOATS | WHOLE
    if tensor.dtype not in taken | {own.dtype}:
        return (
            f"is of type {_dtype(tensor)}, the network wants {_dtype(own)}; give the file as it "
            "was before it was quantized or cast"
        )
    numbers = tensor.to(own.dtype) if own.is_floating_point() else tensor
    if numbers.is_floating_point() and not numbers.isfinite().all():
        return "has values that are not finite; the file is damaged or its training diverged"
    return None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _require_one_network(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: str | Path, where: str
) -> None:
    """Raise InputError naming the prefixes, behind where, under which equally many tensors fit own,
    most of it, if these differ. Names without a prefix are a network's own.
    """
    fits: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name))):
            mine = own.get(name[start:])
            if mine is not None and mine.shape == tensor.shape:
                fits.setdefault(name[:start], {})[name[start:]] = tensor
    most = max(map(len, fits.values()), default=0)
    prefixes = [prefix for prefix, tensors in fits.items() if len(tensors) == most]
    if 2 * most > len(own) and "" not in prefixes:
        first = fits[prefixes[0]]
        others = [prefix for prefix in prefixes[1:] if not _are_equal(first, fits[prefix])]
        _require_one([prefixes[0], *others], "networks", path, where)


def _are_equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


def _part(value: Any, part: str) -> Mapping[str, Any] | None:
    """The entry of this name, or the tensors whose names begin with it and a dot."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get(part), Mapping):
        return value[part]
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): entry
        for name, entry in value.items()
        if isinstance(name, str) and name.startswith(prefix) and isinstance(entry, Tensor)
    } or None


def _unwrapped(
    value: Mapping[str, Any], path: str | Path, where: str
) -> tuple[dict[str, Tensor], str]:
    """The first dict inside value, itself included, that has at least as many weights of its own as
    any entry of it holds, and where it is. Entries with few of the most weights are states of a
    loss or of generators.
    """
    for depth in range(MAX_DEPTH, -1, -1):
        tensors = {str(name): entry for name, entry in value.items() if isinstance(entry, Tensor)}
        found = _wrapped(value, depth)
        counts = {name: _weights(one, depth - 1) for name, one in found.items()}
        inside = max(counts.values(), default=0)
        found = {name: one for name, one in found.items() if counts[name] * FEW >= inside}
        if tensors and _weights(tensors, 0) >= inside:
            return tensors, where
        _require_one(list(found), "state dicts", path, where)
        if not found:
            break
        ((name, value),) = found.items()  # by its text: a file's own key may be a number
        where = f"{where}{name}."
    raise InputError(
        f"{path} holds no weights: {_shown(value)}, none of them a tensor or a state dict"
    )


def _wrapped(value: Any, depth: int = MAX_DEPTH) -> dict[str, Mapping]:
    """The entries that hold weights, themselves or further inside."""
    entries = value.items() if isinstance(value, Mapping) else ()
    known: dict[tuple[int, int], int] = {}
    return {
        str(name): one
        for name, one in entries
        if isinstance(one, Mapping) and _weights(one, depth - 1, known)
    }


def _weights(value: Any, depth: int, known: dict[tuple[int, int], int] | None = None) -> int:
    """How many tensors of more than one number are in value, or in the dict inside that has most; 0
    for an optimizer's state. A single number is a count or a score.

    known: (id, depth) -> the answer: a file may have one dict in a thousand places, each of which
    has another in a thousand.
    """
    known = {} if known is None else known
    if not isinstance(value, Mapping) or depth < 0 or value.keys() >= OPTIMIZER:
        return 0
    if (id(value), depth) not in known:
        mine = sum(isinstance(entry, Tensor) and entry.numel() > 1 for entry in value.values())
        inside = (_weights(entry, depth - 1, known) for entry in value.values())
        known[id(value), depth] = max(mine, *inside, 0)
    return known[id(value), depth]


def _shown(value: Any) -> str:
    names = [str(name)[:30] for name in value] if isinstance(value, Mapping) else []
    return f"the entries {', '.join(names[:NAMED])}" if names else "no entries"


def _fitting(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """state under the names that fit own best: the fewest prefixes of equals."""

    def fit(names: Mapping[str, str]) -> int:
        return sum(new in own and own[new].shape == state[old].shape for old, new in names.items())

    names = max(_namings(state), key=fit)
    return {new: state[old] for old, new in names.items()}


def _namings(state: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    """Old name -> new one, for every chain of PREFIXES that names begin with, shortest first; names
    without a chain's prefix stay.
    """
    yield {name: name for name in state}
    for length in range(1, MAX_PREFIXES + 1):
        for chain in itertools.permutations(PREFIXES, length):
            prefix = "".join(chain)
            if any(name.startswith(prefix) for name in state):
                yield {name: name.removeprefix(prefix) for name in state}
