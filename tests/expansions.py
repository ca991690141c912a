"""What tests of several stages say of their masks and trainings on the tiny data sets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import evaluation_cam
from tests.seeds import seed_of, write_seeds
from tests.sessions import run_stopped
from tool.errors import InputError
from tool.file.cam_file import CamFile, cam_content, load_cam, save_cam
from tool.file.checkpoint import load_torch, save_torch
from tool.file.digests import file_digest
from tool.file.images import read_mask, read_mask_meta
from voc12.lists import load_ids


def expansion_flags(root: Path, cam_dir: Path, label_dir: Path, crop_size: int) -> list[str]:
    """The flags of a training of four iterations of train_irn.py or train_aff.py."""
    return [
        *("--voc12_root", str(root), "--train_list", "train", "--cam_dir", str(cam_dir)),
        *("--num_workers", "0", "--crop_size", str(crop_size), "--backbone", "resnet10t"),
        *("--weights", "none", "--batch_size", "2", "--max_epoches", "2", "--device", "cpu"),
        *("--log_every", "1", "--label_dir", str(label_dir)),
    ]


def expand_flags(root: Path, weights: Path, cam_dir: Path, out: Path, *more: object) -> list[str]:
    """The flags of infer_irn.py or infer_aff.py, in one process."""
    words = ["--voc12_root", root, "--weights", weights, "--cam_dir", cam_dir, "--out_mask", out]
    return [str(word) for word in [*words, "--device", "cpu", "--num_workers", 0, *more]]


def write_empty_seed(root: Path, folder: Path) -> tuple[str, tuple[int, int]]:
    """Make the seed of the first training image one without classes; its id and size."""
    name = load_ids(root, "train")[0]
    size = seed_of(root, name).size
    nothing = np.zeros((0, *size), dtype=np.float32)
    save_cam(folder, CamFile(name, np.zeros(0, dtype=np.int64), nothing, size, {}), "released")
    return name, size


def assert_background(path: Path, size: tuple[int, int]) -> None:
    """A mask has that size and no class."""
    mask = read_mask(path)
    assert mask.shape == size
    assert not mask.any()


def assert_half_precision_masks(folder: Path, full: Path) -> None:
    """Masks in half precision say so, and are those of full precision but for a few pixels."""
    same = [(read_mask(path) == read_mask(full / path.name)).mean() for path in folder.iterdir()]
    assert min(same) > 0.98
    assert all(read_mask_meta(path)["precision"] == "bf16" for path in folder.iterdir())


def evaluated(root: Path, folder: Path, list_name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What evaluation_cam.py prints of a folder of masks."""
    words = ["--voc12_root", root, "--predict_dir", folder, "--type", "png", "--list", list_name]
    evaluation_cam.main(
        evaluation_cam.parse_args([str(word) for word in [*words, "--num_workers", 1]])
    )
    return capsys.readouterr().out


def assert_other_seeds_are_refused(
    trainer: ModuleType,
    flags: list[str],
    root: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session of train_irn.py or train_aff.py goes on with the same maps, whatever weights say
    that they made them, and not where one map has changed; labels are not made then.
    """
    seeds = write_seeds(root, folder / "cam")
    words = [*flags, "--results", folder, "--cam_dir", seeds, "--label_dir", folder / "labels"]
    args = trainer.parse_args([str(word) for word in words])
    run_stopped(trainer.main, args, 1)
    name = load_ids(root, "train")[1]
    seed = seed_of(root, name)
    other = seed.meta | {"weights": "fedcba9876543210"}
    for path in seeds.iterdir():
        save_cam(seeds, replace(load_cam(path), meta=other))
    run_stopped(trainer.main, args, 2)
    save_cam(seeds, replace(seed, cam=seed.cam * np.float32(0.5), meta=other))
    monkeypatch.setattr(trainer, "make_labels", lambda *_: pytest.fail("labels were made"))
    with pytest.raises(InputError, match=rf"1 of 5 files in --cam_dir .* first {name}\.npz"):
        trainer.main(args)


def write_two_networks(weights: Path, path: Path) -> Path:
    """The file of a network with a second state dict, "ema", of other numbers."""
    value = load_torch(weights)
    state = value["state_dict"]
    other = {name: -tensor if tensor.ndim > 1 else tensor for name, tensor in state.items()}
    save_torch(path, value | {"ema": {f"module.{name}": tensor for name, tensor in other.items()}})
    return path


def assert_made_of_the_entry(
    infer: Callable[..., Path], weights: Path, out: Path, meta_of: Callable[[Path], dict]
) -> None:
    """An inference makes its files of the entry of a weights file that --weights_key names, makes
    them again for another, and keeps them for the same.

    infer: (weights, folder, flags) -> the folder's first file; meta_of: what a file says of itself
    """
    path = write_two_networks(weights, out.with_suffix(".pth"))
    with pytest.raises(InputError, match="--weights_key state_dict or --weights_key ema"):
        infer(path, out)
    found = []
    for key in ("state_dict", "ema", "ema"):
        made = infer(path, out, "--weights_key", key)
        assert meta_of(made)["weights_key"] == key
        # a mask of an untrained network may be the same
        content = cam_content if made.suffix == ".npz" else file_digest
        found.append((made.stat().st_ino, content(made)))
    assert found[1][1] != found[0][1]
    assert found[2] == found[1]
    plain = infer(weights, out)
    assert "weights_key" not in meta_of(plain)
