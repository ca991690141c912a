"""What goes wrong around a script while it runs: it is killed, interrupted, its disk fills, its
input changes, another does the same; afterwards the same command must leave what an undisturbed
run leaves.

    python -m tests.attacks --tries 300 --seed 0
    python -m tests.attacks --script infer_cam train_irn --kind kill terminal --tries 50

A try starts a script on a tiny data set, disturbs it after a random time, and looks that

- it ends with the status that its way of ending has, and without a traceback
- no process of it stays
- the same command, run again on the inputs as they were, ends with 0 and leaves the same files, bit
  for bit, and no temporary ones

Scripts run in processes forked from this one, which has their modules loaded; a tenth are started
as a user does, which catches them while they import. Prints a line for every fault and the counts
of all; ends with status 1 if there was one.
"""

import argparse
import hashlib
import importlib
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.attacks.kinds import KINDS, Fault, Try, end, require_status, undisturbed
from tests.attacks.process import start
from tests.attacks.world import SCRIPTS, copied, make_world
from tool.file.atomic import PART
from tool.file.checkpoint import load_torch
from tool.run.progress import progress

# What differs between two undisturbed runs, or says how often a session was begun.
VARYING = ("log.jsonl", "tensorboard", "steps.jsonl", ".lock", ".training", "log.txt")
COMMIT = re.compile(rb"[0-9a-f]{40}(-dirty)?")
FREE = ("num_workers",)  # a setting that differs between tries


def snapshot(place: Path) -> dict[str, str]:
    """Digest of every output by its path, but for VARYING."""
    found = {}
    for path in sorted((place / "out").rglob("*")):
        name = str(path.relative_to(place / "out"))
        if path.is_file() and not set(path.parts) & set(VARYING):
            found[name] = _digest(path)
    return found


def _digest(path: Path) -> str:
    """Of a file's bytes but for commits, which an edit changes; of a torch file, of all values
    that it holds but FREE ones.
    """
    if path.suffix != ".pth":
        return hashlib.sha256(COMMIT.sub(b"", path.read_bytes())).hexdigest()
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for name in sorted(value.keys() - set(FREE), key=str):
                found.update(repr(name).encode())
                add(value[name])
        elif isinstance(value, list | tuple):
            for one in value:
                add(one)
        elif isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            found.update(value.contiguous().numpy().tobytes())
        else:
            found.update(COMMIT.sub(b"", repr(value).encode()))

    add(load_torch(path))
    return found.hexdigest()


def differences(one: dict[str, str], two: dict[str, str]) -> list[str]:
    """Names of files that are in one of them alone, or of other content."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run leaves, and how long it takes, forked and as a user starts it."""

    files: dict[str, str]
    seconds: dict[bool, float]


class Attacks:
    """Tries on a tiny world in folder; the places of faults are kept there."""

    def __init__(self, folder: Path) -> None:
        for name in {script.module for script in SCRIPTS.values()} | {"torch.utils.tensorboard"}:
            importlib.import_module(name)
        self.folder = folder
        self.world = make_world(folder / "world")
        self._references: dict[str, Reference] = {}

    def reference(self, name: str, forked: bool) -> Reference:
        """What the script leaves undisturbed. Raises Fault where two such runs differ."""
        script = SCRIPTS[name]
        known = self._references.setdefault(name, Reference({}, {}))
        if forked not in known.seconds:
            place = copied(self.world, self.folder / "reference")
            known.seconds[forked] = undisturbed(script, place, 0, forked)
            files = snapshot(place)
            if known.files and (other := differences(known.files, files)):
                raise Fault(f"two undisturbed runs of {name} differ in {', '.join(other)}")
            known.files.update(files)
            shutil.rmtree(place)
        return known

    def once(self, name: str, kind: str, workers: int, forked: bool, rng: random.Random) -> None:
        """One try. Raises Fault; its place is kept as fault_<n>."""
        script, reference = SCRIPTS[name], self.reference(name, forked)
        place = copied(self.world, self.folder / "try")
        try:
            KINDS[kind](Try(script, place, workers, forked, reference.seconds[forked], rng))
            run = start(script, place, workers, name="again")
            end(run)
            if kind in ("input", "between") and script.trains and run.status == 2:
                if "was started with other" not in run.text:
                    raise Fault(f"with its input back it ended with 2: {run.text[-1500:]}")
                shutil.rmtree(place)
                return
            require_status(run, 0)
            if other := differences(reference.files, snapshot(place)):
                raise Fault(f"other files than undisturbed: {', '.join(other)}")
            if parts := sorted(place.rglob(f"*{PART}")):
                raise Fault(f"temporary files stay: {', '.join(map(str, parts))}")
        except Fault:
            number = len(list(self.folder.glob("fault_*")))
            os.replace(place, self.folder / f"fault_{number}")
            raise
        shutil.rmtree(place)

    def run(
        self, tries: int, seed: int, scripts: Sequence[str], kinds: Sequence[str], real: float
    ) -> tuple[Counter, list[str]]:
        """(tries by kind, a line for every fault). real: the share that is started as by a
        user.
        """
        rng = random.Random(seed)
        counts, faults = Counter(), []
        names = [name for name in scripts for _ in range(SCRIPTS[name].share)]
        for number in progress(range(tries), unit="try"):
            name, kind = rng.choice(names), rng.choice(kinds)
            workers = rng.choice((0, 2)) if SCRIPTS[name].workers else 0
            # a limit on the size of files holds for the locks of workers too
            workers = 0 if kind == "disk" else workers
            forked = rng.random() >= real
            counts[kind] += 1
            try:
                self.once(name, kind, workers, forked, rng)
            except Fault as fault:
                how = f"{workers} workers, {'forked' if forked else 'started'}"
                faults.append(f"try {number}: {name}, {kind}, {how}: {fault}")
                print(faults[-1], flush=True)
        return counts, faults


def main() -> None:
    """Attack, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tries", type=int, default=100, help="attacks (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of their choice (default %(default)s)")
    parser.add_argument("--script", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--real", type=float, default=0.1, help="share started as by a user (default %(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    start_time = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="attacks_"))
    counts, faults = Attacks(folder).run(args.tries, args.seed, args.script, args.kind, args.real)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))
    print(f"{args.tries} tries, {len(faults)} faults, {time.monotonic() - start_time:.0f} s")
    if faults:
        print(f"their places are kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
