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
import atexit
import contextlib
import hashlib
import importlib
import io
import json
import os
import pty
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from network.aff import build_affinity_net
from network.build import build_cpn
from network.expansion_weights import build_irn
from network.seg import build_seg
from network.weights import save_network
from tests.seeds import write_seeds
from tests.synthetic import write_voc_tree
from tool.errors import run_script
from tool.file.atomic import PART
from tool.file.checkpoint import load_torch
from tool.file.images import read_mask
from tool.file.segmentation import encode
from tool.run.notes import forget_notes
from tool.run.progress import progress
from voc12.constants import IMAGE_DIR, MASK_DIR

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("cat", "dog", "owl")
NETWORK = "test_resnet"  # timm's smallest with maps at all strides
PATIENCE = 240  # seconds that a run may take
GRACE = 120  # seconds that processes of a script may stay after it, on a busy machine
MEGABYTE = 1 << 20
# What differs between two undisturbed runs, or says how often a session was begun.
VARYING = ("log.jsonl", "tensorboard", "steps.jsonl", ".lock", ".training", "log.txt")
COMMIT = re.compile(rb"[0-9a-f]{40}(-dirty)?")
FREE = ("num_workers",)  # a setting that differs between tries

SMALL = f"--backbone {NETWORK} --weights none --device cpu --log_every 1"
TRAIN = f"--voc12_root data --train_list train {SMALL} --results out --session_name run"
CAM_TRAINING = (
    f"{TRAIN} --val_list val --crop_size 64 --resize_long 60 90 --superpixels 30 --batch_size 2 "
    "--max_epoches 2 --save_minutes 0.001"
)
EXPANSION = "--cam_dir cams --batch_size 2 --max_epoches 2 --save_minutes 0.001"
INFER = "--voc12_root data --infer_list train --device cpu"
LIST = "--voc12_root data --list train"


@dataclass(frozen=True)
class Script:
    """A command on the tiny data set: a module, its flags, and where its inputs lie."""

    module: str
    flags: str
    inputs: tuple[str, ...]
    workers: bool = True  # whether it has --num_workers
    trains: bool = False  # saves at SIGTERM and Ctrl-C, and is alone in its folder
    share: int = 2

    def words(self, workers: int) -> list[str]:
        """The flags, with a number of worker processes."""
        return [*self.flags.split(), *(["--num_workers", str(workers)] if self.workers else [])]


DATA = ("data/JPEGImages", "data/cls_labels.npy", "data/ImageSets/Segmentation/train.txt")
SCRIPTS = {
    "train_cpn": Script("train_cpn", CAM_TRAINING, DATA, trains=True, share=4),
    "train_irn": Script(
        "train_irn",
        f"{TRAIN} {EXPANSION} --crop_size 80 --label_dir out/labels",
        (*DATA, "cams"),
        trains=True,
    ),
    "train_aff": Script(
        "train_aff",
        f"{TRAIN} {EXPANSION} --crop_size 72 --label_dir out/scores",
        (*DATA, "cams"),
        trains=True,
    ),
    "train_seg": Script(
        "train_seg",
        f"{TRAIN} --val_list val --mask_dir masks --arch deeplabv3 --head_channels 8 "
        "--crop_size 64 --batch_size 2 --max_iterations 4 --val_every 2 --save_minutes 0.001",
        (*DATA, "masks"),
        trains=True,
    ),
    "infer_cam": Script(
        "infer_cam",
        f"{INFER} --weights weights/cpn.pth --scales 0.5 1 --out_cam out/cam --save_png out/png",
        (*DATA, "weights/cpn.pth"),
        share=4,
    ),
    "infer_cam photographs": Script(
        "infer_cam",
        "--image data/JPEGImages --device cpu --weights weights/cpn.pth --scales 1 "
        "--save_png out/png --out_cam out/cam --confidence",
        ("data/JPEGImages", "weights/cpn.pth"),
    ),
    "make_crf": Script(
        "make_crf",
        f"{INFER.replace(' --device cpu', '')} --cam_dir cams --out_cam out/crf --out_mask out/m",
        (*DATA[::2], "cams"),
        share=4,
    ),
    "make_masks": Script(
        "make_masks",
        "--voc12_root data --infer_list train --cam_dir cams --out_mask out/m --t 0.4",
        ("cams",),
    ),
    "evaluation_cam": Script(
        "evaluation_cam",
        f"{LIST} --predict_dir cams --curve_png out/a.png --json out/a.json "
        "--logfile out/log.txt --per_image out/a.npz",
        ("cams", "data/SegmentationClassAug"),
    ),
    "infer_irn": Script(
        "infer_irn",
        f"{INFER} --weights weights/irn.pth --cam_dir cams --out_mask out/m",
        (*DATA[::2], "cams", "weights/irn.pth"),
    ),
    "infer_aff": Script(
        "infer_aff",
        f"{INFER} --weights weights/aff.pth --cam_dir cams --out_mask out/m",
        (*DATA[::2], "cams", "weights/aff.pth"),
    ),
    "infer_seg": Script(
        "infer_seg",
        f"{INFER} --weights weights/seg.pth --scales 1 --out_mask out/m",
        (*DATA[::2], "weights/seg.pth"),
    ),
    "export_seg": Script(
        "export_seg",
        "--weights weights/seg.pth --out out/seg --export onnx",
        ("weights/seg.pth",),
        workers=False,
        share=1,
    ),
    "export_masks": Script(
        "export_masks",
        "masks --to coco --out out/masks.json --images data/JPEGImages --classes data/classes.txt "
        "--overwrite",
        ("masks", "data/JPEGImages"),
    ),
    "report": Script(
        "report",
        f"{LIST} --refined_dir cams --out out/report.html",
        ("cams", "data/JPEGImages", "data/SegmentationClassAug"),
        share=3,
    ),
    "voc12.coco": Script(
        "voc12.coco",
        "--instances coco.json --images data/JPEGImages --out out/coco",
        ("coco.json", "data/JPEGImages"),
        share=3,
    ),
    "voc12.prepare": Script(
        "voc12.prepare",
        "--voc12_root out/voc --voc_tar voc.tar --sbd_tar sbd.tgz --expect 3",
        ("voc.tar", "sbd.tgz"),
        workers=False,
        share=3,
    ),
}


# ============ the tiny world ============
def make_world(folder: Path) -> Path:
    """Write all inputs into folder, and return it."""
    # only here: the archives of that module take a while
    from tests.voc12.test_prepare import SBD_FILES, VOC_FILES, tar_file

    folder.mkdir(parents=True, exist_ok=True)
    write_voc_tree(folder / "data", {"train": 5, "val": 2}, class_count=3, classes=CLASSES)
    write_seeds(folder / "data", folder / "cams")
    shutil.copytree(folder / "data" / MASK_DIR, folder / "masks")
    torch.manual_seed(0)
    cpn = {"backbone": NETWORK, "num_classes": 3}
    seg = {"arch": "deeplabv3", "head_channels": 8, **cpn}
    for name, net, config in (
        ("cpn", build_cpn(**cpn), cpn),
        ("irn", build_irn(NETWORK, "none"), {"backbone": NETWORK, "crop_size": 96}),
        ("aff", build_affinity_net(NETWORK), {"backbone": NETWORK, "preset": "psa"}),
        ("seg", build_seg(**seg), seg),
    ):
        path = folder / "weights" / f"{name}.pth"
        save_network(path, net.eval(), config | {"method": name}, CLASSES, {})
    (folder / "coco.json").write_text(json.dumps(_instances(folder / "data")))
    tar_file(folder / "voc.tar", VOC_FILES)
    tar_file(folder / "sbd.tgz", SBD_FILES)
    return folder


def _instances(root: Path) -> dict:
    images, annotations = [], []
    for place, path in enumerate(sorted((root / IMAGE_DIR).iterdir())):
        mask = read_mask(root / MASK_DIR / f"{path.stem}.png")
        size = dict(zip(("height", "width"), mask.shape, strict=True))
        images.append({"id": place, "file_name": path.name, **size})
        annotations += [
            {"image_id": place, "category_id": int(value), "segmentation": encode(mask == value)}
            for value in np.unique(mask[(mask > 0) & (mask < 255)])
        ]
    categories = [{"id": place, "name": name} for place, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def copied(world: Path, place: Path) -> Path:
    """A copy of the world, large files linked, without outputs."""
    shutil.copytree(world, place, copy_function=_link_large, symlinks=True)
    return place


def _link_large(source: str, target: str) -> None:
    if source.endswith(".pth"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


# ============ running a script ============
@dataclass
class Run:
    """A script that was started in a process group and session of its own."""

    pid: int
    output: Path  # stdout and stderr
    terminal: int | None = None  # what it was started in, our end
    started: float = field(default_factory=time.monotonic)
    status: int | None = None  # as subprocess has it: below 0 for a signal

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Whether it ended within seconds from now; reads the terminal meanwhile."""
        end = time.monotonic() + seconds
        while self.status is None and time.monotonic() < end:
            self._read_terminal()
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.002)
        self._read_terminal()
        return self.status is not None

    def _read_terminal(self) -> None:
        while self.terminal is not None and select.select([self.terminal], [], [], 0)[0]:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                os.close(self.terminal)
                self.terminal = None
                return
            with self.output.open("ab") as file:
                file.write(data)

    def send(self, number: int, everyone: bool = False) -> None:
        """Send a signal to the script, or to its whole process group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if everyone else os.kill)(self.pid, number)

    def press_ctrl_c(self) -> None:
        """As at a keyboard: the terminal sends SIGINT to all of the foreground group."""
        with contextlib.suppress(OSError):
            if self.terminal is not None:
                os.write(self.terminal, b"\x03")

    def rest(self) -> list[int]:
        """The processes of its session that are still there."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.pid and fields[0] not in "ZX":
                        found.append(int(entry.name))
        return found

    @property
    def text(self) -> str:
        """What it said."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


def start(
    script: Script,
    place: Path,
    workers: int,
    *,
    in_terminal: bool = False,
    forked: bool = True,
    largest_file: int | None = None,
    environment: dict[str, str] | None = None,
    name: str = "run",
) -> Run:
    """Start a script in the folder place.

    forked: in a process that has its modules loaded; largest_file: bytes that it may write to one
    """
    output = place / f"{name}.said"
    output.write_bytes(b"")
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = None
    if in_terminal:
        pid, terminal = pty.fork()
    else:
        pid = os.fork()
    if pid:
        return Run(pid, output, terminal)
    try:
        if not in_terminal:
            os.setsid()
            said = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
        os.chdir(place)
        os.environ |= {"OMP_NUM_THREADS": "1", **(environment or {})}
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        words = script.words(workers)
        if forked:
            _run_module(script.module, words)
        else:
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            os.environ["PYTHONPATH"] = path
            file = ROOT / f"{script.module}.py"
            how = [str(file)] if file.exists() else ["-m", script.module]
            os.execv(sys.executable, [sys.executable, *how, *words])
    finally:
        os._exit(99)


def _run_module(name: str, words: Sequence[str]) -> None:
    """Run a script as python does, in this forked process, which ends."""
    status = 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(number, mode, closefd=False), line_buffering=True)
        for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
    )
    sys.argv = [name, *words]
    torch.set_num_threads(1)
    forget_notes()
    if CLOCK in os.environ:
        _let_clock_jump(int(os.environ[CLOCK]))
    try:
        module = importlib.import_module(name)
        sys.modules["__main__"] = module  # which processes that it spawns import
        run_script(module.main, lambda: module.parse_args(list(words)))
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


# ============ what must be ============
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


class Fault(Exception):
    """What a try found."""


def undisturbed(script: Script, place: Path, workers: int, forked: bool = True) -> float:
    """Run a script to its end; seconds. Raises Fault unless it ends well."""
    run = start(script, place, workers, forked=forked, name="again")
    _end(run)
    if run.status != 0:
        raise Fault(f"undisturbed it ended with {run.status}: {run.text[-1500:]}")
    _require_calm(run)
    return time.monotonic() - run.started


def _end(run: Run) -> None:
    """Wait for a run and all of its processes. Raises Fault where some stay."""
    ended = run.wait()
    stop = time.monotonic() + GRACE
    while (rest := run.rest()) and ended and time.monotonic() < stop:
        time.sleep(0.05)
    for pid in rest:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not ended:
        run.wait(GRACE)
        raise Fault(f"it did not end: {run.text[-1500:]}")
    if rest:
        raise Fault(f"processes stay {GRACE} s after it: {len(rest)}; {run.text[-500:]}")


def _require_calm(run: Run) -> None:
    text = run.text
    if "Traceback" in text or "Fatal Python" in text:
        raise Fault(f"it ended with {run.status} and said: {text[-3000:]}")


def _require_status(run: Run, *allowed: int) -> None:
    _require_calm(run)
    if run.status not in allowed:
        raise Fault(f"it ended with {run.status}, not with one of {allowed}: {run.text[-1500:]}")
    if run.status == 2 and "error: " not in run.text:
        raise Fault(f"it ended with 2 and said: {run.text[-1500:]}")


# ============ disturbances ============
@dataclass(frozen=True)
class Try:
    """One attack: what is disturbed, where, and with which randomness."""

    script: Script
    place: Path
    workers: int
    forked: bool
    seconds: float  # that an undisturbed run takes
    rng: random.Random

    def begin(self, **options) -> Run:
        """Start the script, and wait until a random moment of it."""
        run = start(self.script, self.place, self.workers, forked=self.forked, **options)
        run.wait(self.rng.uniform(0, 1.05 * self.seconds))
        return run


def _killed(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGKILL)
    _end(run)
    _require_status(run, 0, -signal.SIGKILL)


def _terminated(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGTERM)
    _end(run)
    _require_status(run, 0, -signal.SIGTERM, 128 + signal.SIGTERM)


def _interrupted(attempt: Try) -> None:
    run = attempt.begin()
    run.send(signal.SIGINT)
    _end(run)
    _require_status(run, 0, -signal.SIGINT, 128 + signal.SIGINT)


def _in_terminal(attempt: Try) -> None:
    run = attempt.begin(in_terminal=True)
    run.press_ctrl_c()
    _end(run)
    _require_status(run, 0, -signal.SIGINT, 128 + signal.SIGINT)


def _terminal_closed(attempt: Try) -> None:
    run = attempt.begin(in_terminal=True)
    if run.terminal is not None:
        os.close(run.terminal)
        run.terminal = None
    _end(run)
    _require_status(run, 0, -signal.SIGHUP, 128 + signal.SIGHUP, 141)


def _disk_full(attempt: Try) -> None:
    size = int(10 ** attempt.rng.uniform(0, 6))
    run = start(
        attempt.script,
        attempt.place,
        attempt.workers,
        in_terminal=True,
        forked=attempt.forked,
        largest_file=size,
    )
    _end(run)
    _require_status(run, 0, 2)


def _two_at_once(attempt: Try) -> None:
    first = start(attempt.script, attempt.place, attempt.workers, name="one")
    first.wait(attempt.rng.uniform(0, attempt.seconds) * attempt.rng.randrange(2))
    second = start(attempt.script, attempt.place, attempt.workers, name="two")
    for run in (first, second):
        _end(run)
    allowed = (0, 2) if attempt.script.trains else (0,)
    for run in (first, second):
        _require_status(run, *allowed)
        if run.status == 2 and "another process is training" not in run.text:
            raise Fault(f"beside another it ended with 2: {run.text[-1500:]}")
    if (first.status, second.status) == (2, 2):
        raise Fault("both gave way to the other")


def _through_links(attempt: Try) -> None:
    place = attempt.place
    (place / "elsewhere").mkdir()
    (place / "out").symlink_to("elsewhere")
    for name in ("data", "cams", "masks"):
        (place / name).rename(place / f"real_{name}")
        (place / name).symlink_to(f"real_{name}")
    run = attempt.begin()
    _end(run)
    _require_status(run, 0)
    if not (place / "out").is_symlink():
        raise Fault("a link was replaced")


def _clock(attempt: Try) -> None:
    """Files from the future and from 1970, and a clock that jumps an hour to either side."""
    for path in attempt.place.rglob("*"):
        if path.is_file():
            moment = attempt.rng.choice((0, 1, 2**31 - 1, 2**32, time.time() - 86400))
            os.utime(path, (moment, moment))
    run = attempt.begin(environment={CLOCK: str(attempt.rng.randrange(1000))})
    _end(run)
    _require_status(run, 0)


CLOCK = "TESTS_ATTACKS_CLOCK"


def _let_clock_jump(seed: int) -> None:
    rng, now = random.Random(seed), time.time
    time.time = lambda: now() + rng.choice((-3600, 0, 3600))
    time.time_ns = lambda: int(time.time() * 1e9)


def _victim(attempt: Try) -> Path:
    path = attempt.place / attempt.rng.choice(attempt.script.inputs)
    return attempt.rng.choice(sorted(path.iterdir())) if path.is_dir() else path


def _spoil(attempt: Try, path: Path) -> None:
    """Cut, replace, empty or take away a file, in place or by another.

    Not photographs by other whole ones, which no stage after infer_cam.py notices. Nor photographs
    in place, which voc12.coco links.
    """
    rng, data = attempt.rng, path.read_bytes()
    picture = path.suffix in (".jpg", ".png")
    others = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
    new: bytes | None = data[: rng.randrange(len(data) + 1)]
    match rng.randrange(6):
        case 0:
            new = None
        case 1:
            new = rng.randbytes(rng.randrange(1000))
        case 2 if others and not picture:
            new = rng.choice(others).read_bytes()
        case 3:
            path.unlink()
            path.mkdir()
            return
        case 4:
            path.unlink()
            path.symlink_to("nothing")
            return
    if new is not None and path.suffix not in (".pth", ".jpg") and rng.random() < 0.5:
        path.write_bytes(new)  # as cp does, under who reads it
        return
    path.unlink()
    if new is not None:
        path.write_bytes(new)


def _with_spoilt(attempt: Try, at_work: bool) -> None:
    path = _victim(attempt)
    kept = attempt.place / "kept"
    shutil.copy2(path, kept)
    run = attempt.begin() if at_work else None
    if run is not None and run.status is not None:
        os.unlink(kept)
        _end(run)
        _require_status(run, 0)
        return
    _spoil(attempt, path)
    run = run or start(attempt.script, attempt.place, attempt.workers, forked=attempt.forked)
    _end(run)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    os.replace(kept, path)
    _require_status(run, 0, 2)


def _input_changes(attempt: Try) -> None:
    _with_spoilt(attempt, at_work=True)


def _input_changes_between(attempt: Try) -> None:
    undisturbed(attempt.script, attempt.place, attempt.workers)
    _with_spoilt(attempt, at_work=False)


KINDS: dict[str, Callable[[Try], None]] = {
    "kill": _killed,
    "term": _terminated,
    "int": _interrupted,
    "terminal": _in_terminal,
    "hangup": _terminal_closed,
    "disk": _disk_full,
    "twin": _two_at_once,
    "links": _through_links,
    "clock": _clock,
    "input": _input_changes,
    "between": _input_changes_between,
}


# ============ tries ============
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
            _end(run)
            if kind in ("input", "between") and script.trains and run.status == 2:
                if "was started with other" not in run.text:
                    raise Fault(f"with its input back it ended with 2: {run.text[-1500:]}")
                shutil.rmtree(place)
                return
            _require_status(run, 0)
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
