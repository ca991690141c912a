"""State dicts as people have them: wrapped, with prefixes, as torch files or safetensors, read
without running anything in them.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
MAX_DEPTH = 4
NAMED = 4  # entries that a message names


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
    key: the entry to take where there are several ("model.ema" for one inside another)
    Raises InputError naming the file where it holds no tensors, or several state dicts and no key.
    """
    require_no_session(value, path)
    for part in key.split(".") if key else ():
        if not isinstance(value, Mapping) or not isinstance(value.get(part), Mapping):
            raise InputError(f"--weights_key {key}: {path} has {_shown(_wrapped(value))}")
        value = value[part]
    state = _unwrapped(value, path, "" if key is None else f"{key}.")
    return state if own is None else _fitting(state, own)


def _unwrapped(value: Mapping[str, Any], path: str | Path, where: str) -> dict[str, Tensor]:
    for _ in range(MAX_DEPTH):
        tensors = {str(name): entry for name, entry in value.items() if isinstance(entry, Tensor)}
        if tensors:
            return tensors
        found = _wrapped(value)
        if len(found) > 1:
            names = " or ".join(f"--weights_key {where}{name}" for name in list(found)[:NAMED])
            raise InputError(f"{path} holds {len(found)} state dicts; say which: {names}")
        if not found:
            break
        ((name, value),) = found.items()  # by its text: a file's own key may be a number
        where = f"{where}{name}."
    raise InputError(f"{path} holds no weights: {_shown(value)}, none of them a tensor")


def _wrapped(value: Any) -> dict[str, Mapping]:
    """The entries that hold tensors, themselves or further inside."""
    entries = value.items() if isinstance(value, Mapping) else ()
    seen: set[tuple[int, int]] = set()
    return {str(name): one for name, one in entries if _has_tensors(one, MAX_DEPTH, seen)}


def _has_tensors(value: Any, depth: int, without: set[tuple[int, int]]) -> bool:
    """without: (id, depth) of what is known to hold none: a file may have one dict in a thousand
    places, each of which has another in a thousand.
    """
    if not isinstance(value, Mapping) or not depth or (id(value), depth) in without:
        return False
    if any(
        isinstance(entry, Tensor) or _has_tensors(entry, depth - 1, without)
        for entry in value.values()
    ):
        return True
    without.add((id(value), depth))
    return False


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
