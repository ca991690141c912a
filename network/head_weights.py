"""The classes of a trained network's head: whose row is whose, by the names in its file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from network.cpn import CPNHead
from network.weights import class_names, is_config
from tool.file.state_dict import read_weights
from tool.file.text import shortened
from tool.names import nfc


def named_classes(value: Mapping[str, Any], path: str | Path) -> tuple[str, ...]:
    """The classes that the file at path, which holds value, names for its network; none where it
    describes no network.
    """
    return class_names(value, path) if is_config(value.get("config")) else ()


def match_head(net: CPNHead, fresh: Tensor, path: str | Path, classes: Sequence[str]) -> str:
    """Give each class its row of the head that net has taken over from the file at path, by name;
    classes that the file does not know start afresh, and all do where it knows none. What was done,
    in words, "" where the file names the same classes in the same order, or has no head.

    fresh: the head's weight (1 + C, channels, 1, 1) before, background first; classes: (C,)
    """
    weight = net.fc8.weight
    if torch.equal(weight, fresh):
        return ""
    found = [nfc(name) for name in named_classes(read_weights(path), path)]
    wanted = [nfc(name) for name in classes]
    if found == wanted:
        return ""
    if len(found) != len(weight) - 1:
        return (
            f"weights {path} do not name their classes: the classifier is taken as that of "
            f"{shortened(', '.join(classes))}, in this order"
        )
    rows = {name: row + 1 for row, name in enumerate(found) if name in wanted}
    with torch.no_grad():
        taken = weight.clone()
        weight.copy_(fresh)
        if rows:
            weight[0] = taken[0]
        for place, name in enumerate(wanted):
            if name in rows:
                weight[place + 1] = taken[rows[name]]
    afresh = [name for name in classes if nfc(name) not in rows]
    if not afresh:
        return f"weights {path} have these classes in another order: their rows go by name"
    return f"weights {path} are of other classes; afresh start {shortened(', '.join(afresh))}"
