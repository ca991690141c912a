"""SIGKILL at random moments: whatever was being written, every file that bears its final name is
whole.

A forked process writes all kinds of files of results/ over and over, by the functions of the
scripts; it is killed after a random time, and a reader reads what it left. A file cut short, empty
or mixed of two versions would be refused or hold other values than were written.
"""

import json
import mmap
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from tool.expand.seed import find_seeds
from tool.file.atomic import write_json
from tool.file.cam_file import FORMATS, CamFile, load_cam, save_cam
from tool.file.checkpoint import load_torch
from tool.file.images import read_image, read_mask, read_mask_meta, write_image, write_mask
from tool.run.run_log import RunLog
from tool.run.trainer import CHECKPOINT, TrainingRun
from voc12.expansion_labels import load_scores, write_scores
from voc12.labels import load_labels, save_labels
from voc12.lists import derive_train_aug

KILLS = 60


def _trainer(folder: Path) -> TrainingRun:
    net = nn.Linear(300, 300)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = LambdaLR(optimizer, lambda step: 1.0)
    return TrainingRun(
        net,
        optimizer,
        schedule,
        torch.device("cpu"),
        folder,
        {},
        RunLog(folder),
        epochs=1,
        steps_per_epoch=1,
    )


def _write_for_ever(root: Path, rng: np.random.Generator, begun: mmap.mmap) -> None:
    """Every file holds one number, its version, in all of its places. Counts in begun."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    cv2.setNumThreads(0)
    run = _trainer(root / "session")

    def checkpoint(version: int) -> None:
        with torch.no_grad():
            run.net.weight.fill_(version)
            run.net.bias.fill_(version)
        run.step = version
        run.save()
        run.log.line("train", step=version)

    def cams(version: int) -> None:
        cam = np.full((2, 60, 70), version / 512, dtype=np.float32)
        for format in FORMATS:
            save_cam(
                root / format,
                CamFile("a", np.array([0, 2]), cam, (60, 70), {"version": version}),
                format,
            )

    def masks(version: int) -> None:
        write_mask(
            root / "SegmentationClassAug" / "a.png",
            np.full((90, 90), version),
            {"version": version},
        )
        write_image(root / "overlay.png", np.full((90, 90, 3), version, dtype=np.uint8))

    def labels(version: int) -> None:
        scores = np.full((3, 40, 40), version / 256, dtype=np.float32)
        write_scores(root / "scores.npz", np.array([0, 1]), scores, scores, {"version": version})
        save_labels(
            root / "cls_labels.npy", ["a"], np.full((1, 200), 1) * (np.arange(200) < version)
        )
        write_json(root / "table.json", {"version": [version] * 500})

    writers = [checkpoint, cams, masks, labels]
    while True:
        begun[0] = (begun[0] + 1) % 256
        writers[rng.integers(len(writers))](int(rng.integers(200)))


def _read_all(root: Path) -> int:
    """How many files are there; raises if one is not whole."""
    found = 0

    def there(path: Path) -> bool:
        nonlocal found
        found += path.is_file()
        return path.is_file()

    if there(root / "session" / CHECKPOINT):
        state = load_torch(root / "session" / CHECKPOINT)
        assert all((state["net"][name] == state["step"]).all() for name in ("weight", "bias"))
    if there(root / "session" / "log.jsonl"):
        assert all(
            "step" in json.loads(line)
            for line in (root / "session" / "log.jsonl").read_text().splitlines()
        )
    for format in FORMATS:
        if there(root / format / ("a.npz" if format == "npz" else "a.npy")):
            cam_file = load_cam(find_seeds(root / format, ["a"])[0])
            assert np.unique(cam_file.cam).size == 1
            assert format != "npz" or (cam_file.cam == cam_file.meta["version"] / 512).all()
    if there(root / "SegmentationClassAug" / "a.png"):
        path = root / "SegmentationClassAug" / "a.png"
        assert (read_mask(path) == read_mask_meta(path)["version"]).all()
    if there(root / "overlay.png"):
        assert np.unique(read_image(root / "overlay.png")).size == 1
    if there(root / "scores.npz"):
        low, high, meta = load_scores(root / "scores.npz")
        assert (low == meta["version"] / 256).all()
        assert (high == meta["version"] / 256).all()
    if there(root / "cls_labels.npy"):
        row = load_labels(root, ["a"], [str(i) for i in range(200)])[0]
        assert (np.diff(row) <= 0).all()
    if there(root / "table.json"):
        assert len(set(json.loads((root / "table.json").read_text())["version"])) == 1
    return found


def test_no_kill_leaves_a_half_written_file(tmp_path):
    rng = np.random.default_rng(0)
    found, strays = [], 0
    for kill in range(KILLS):
        begun = mmap.mmap(-1, 1)  # shared: kills fall where they should on a busy machine too
        child = os.fork()
        if child == 0:
            try:
                _write_for_ever(tmp_path, np.random.default_rng(kill), begun)
            finally:  # an error must not run the rest of the tests in this process
                os._exit(1)
        writes = rng.integers(8)
        while begun[0] < writes and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        found.append(_read_all(tmp_path))
        parts = list(tmp_path.rglob("*.part"))
        strays += len(parts)
        for part in parts:
            part.unlink()
    assert max(found) == 10
    assert strays > 0  # kills did fall into writing


def test_what_a_kill_leaves_behind_is_no_file_of_the_folder(tmp_path):
    """Temporary files are hidden: lists made from a folder do not take them for images."""
    masks = tmp_path / "SegmentationClassAug"
    write_mask(masks / "b.png", np.zeros((3, 3)))
    (masks / ".a.png.x1.part").write_bytes(b"half")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("c\n")
    assert derive_train_aug(tmp_path) == ["b"]
