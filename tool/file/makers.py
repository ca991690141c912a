"""Which networks made the CAM files or masks of a folder, by what these say of themselves: numbers
of a folder that two networks have filled are of neither.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tool.errors import InputError

OWN = ""  # the place of the weights that made a file itself
NAMED = 3  # networks that a message names


def weights_by_place(meta: dict[str, Any]) -> dict[str, str]:
    """place -> digest of a weights file that took part in making a file of this meta: OWN, the
    "consensus" and "refiner" of its maps, and the same of the seed that it was made from, as
    "seeds", "seeds' consensus", "seeds' seeds", ...
    """
    found, seeds = {}, ()
    while isinstance(meta, dict):
        agreed = meta.get("consensus")
        parts = {
            OWN: _weights(meta),
            "consensus": _weights(agreed) if isinstance(agreed, dict) else None,
            "refiner": meta.get("refiner_weights"),
        }
        for part, weights in parts.items():
            if isinstance(weights, str):
                found["' ".join((*seeds, part) if part else seeds)] = weights
        meta, seeds = meta.get("cam"), (*seeds, "seeds")
    return found


def _weights(said: dict[str, Any]) -> str | None:
    """The digest of the weights that tool.file.digests.weights_meta says, and the entry of the
    file, if one is named.
    """
    weights, key = said.get("weights"), said.get("weights_key")
    return weights if key is None or not isinstance(weights, str) else f"{weights} ({key})"


@dataclass
class Makers:
    """Counts files by the weights that made them.

    found: place -> digest -> (number of files, name of the first); files of other codes, which say
    nothing, are not in it
    """

    found: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[tuple[str, dict[str, Any]]]) -> "Makers":
        """Of (name, meta) of each file."""
        makers = cls()
        for name, meta in files:
            makers.add(name, meta)
        return makers

    def add(self, name: str, meta: dict[str, Any]) -> None:
        """Count a file."""
        for place, weights in weights_by_place(meta).items():
            counts = self.found.setdefault(place, {})
            count, first = counts.get(weights, (0, name))
            counts[weights] = (count + 1, first)

    def __add__(self, other: "Makers") -> "Makers":
        total = Makers({place: dict(counts) for place, counts in self.found.items()})
        for place, counts in other.found.items():
            mine = total.found.setdefault(place, {})
            for weights, (count, first) in counts.items():
                before, earlier = mine.get(weights, (0, first))
                mine[weights] = (before + count, earlier)
        return total

    def mixed(self) -> str | None:
        """What several networks made, in words: "files of 2 networks: 3 by weights ..., first
        a.npz, 1 by weights ..., first b.npz"; None where one did.
        """
        for place, counts in self.found.items():
            if len(counts) > 1:
                which = f" of their {place}" if place else ""
                shown = ", ".join(
                    f"{count} by weights{which} {weights}, first {first}"
                    for weights, (count, first) in list(counts.items())[:NAMED]
                )
                return f"files of {len(counts)} networks: {shown}"
        return None

    def require_one(self, folder: object) -> None:
        """Raise InputError naming the folder and the networks where several made its files."""
        if mixed := self.mixed():
            raise InputError(
                f"{folder} mixes {mixed}; make all of them with one, or keep each network's in a "
                "folder of its own"
            )
