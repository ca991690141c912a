"""A trainer's session from its flags: the device, the digest of its data, begin and end."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tool.errors import InputError
from tool.file.digests import digest, file_digest
from tool.file.state_dict import read_weights
from tool.run.device import choose_device
from tool.run.distributed import gather, join
from tool.run.flags import session_settings
from tool.run.progress import progress
from tool.run.run_log import RunLog, git_commit
from tool.run.shards import is_main, shard
from tool.run.trainer import WEIGHTS, TrainingRun, seed_everything
from tool.run.training_flags import FREE_SETTINGS


def begin_machine(args: argparse.Namespace) -> torch.device:
    """Seed everything, choose the device and join the other processes, as --seed, --deterministic
    and --device say; returns the device.
    """
    seed_everything(args.seed, args.deterministic)
    device = choose_device(args.device)
    join(device)
    return device


def session_folder(args: argparse.Namespace) -> Path:
    """results/<session_name>, where the session writes."""
    return Path(args.results) / args.session_name


def weights_path(args: argparse.Namespace, suffix: str = "") -> Path:
    """results/<session_name>/<session_name><suffix>.pth, or .safetensors as --save_format says."""
    return session_folder(args) / f"{args.session_name}{suffix}.{args.save_format}"


def data_digest(
    ids: Sequence[str], classes: Sequence[str], labels: np.ndarray | None = None
) -> str:
    """What tells one set of training data from another: image ids in their order, class names,
    image labels where they train.
    """
    return digest(
        {
            "ids": list(ids),
            "classes": list(classes),
            "labels": None if labels is None else labels.tolist(),
        }
    )


def file_contents(paths: Sequence[Path], content: Callable[[Path], str]) -> dict[str, str]:
    """File name -> content(path), of files that a training learns from, which tells one content
    from another: tool.file.digests.file_digest, tool.file.images.mask_content,
    tool.file.cam_file.cam_content.

    All bytes are read, once at every start, since sizes and times of files change where they are
    copied and stay where a mask is drawn anew; 10,582 masks of 8 KB take two seconds, as many
    photographs of 110 KB two, CAM files of 140 KB five. Several ranks read a share each; all get
    the whole.
    """
    mine = progress(shard(paths), desc="what is learnt from", unit="file", leave=False)
    shares = gather({path.name: content(path) for path in mine})
    return {name: found for share in shares for name, found in share.items()}


def weights_contents(weights: str) -> dict[str, str]:
    """{weights: its digest} of the file that a training starts from; {} for "imagenet" and
    "none".
    """
    return {} if weights in ("imagenet", "none") else {str(weights): file_digest(weights)}


@dataclass(frozen=True)
class Trained:
    """What a training changes, and on which device."""

    net: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    device: torch.device


def begin_session(
    args: argparse.Namespace,
    defaults: argparse.Namespace,
    trained: Trained,
    epochs: int,
    steps_per_epoch: int,
    data: str,
    free: tuple[str, ...] = (),
    sources: Mapping[str, dict[str, str]] | None = None,
) -> TrainingRun:
    """The training that the flags of add_machine_flags and add_session_flags ask for, begun or
    continued from its checkpoint.

    defaults: the script's flags where none is given, no preset either: what a session had whose
    version lacked a flag; data: data_digest of what is trained on; free: settings beside
    FREE_SETTINGS in which a session may go on otherwise; sources: flag -> file_contents of its
    folder, "weights" -> weights_contents. Raises InputError for a session with other settings, or
    that learns from other files, or would write over the weights that it starts from.
    """
    folder = session_folder(args)
    _require_own_weights(args)
    run = TrainingRun(
        **vars(trained),
        folder=folder,
        settings=session_settings(args),
        defaults=session_settings(defaults),
        free=(*FREE_SETTINGS, *free),
        data=data,
        sources=dict(sources or {}),
        log=RunLog(folder),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        precision=args.precision,
        accumulate=args.accum,
        clip_norm=getattr(args, "clip_norm", 0.0),
        save_minutes=args.save_minutes,
        log_every=args.log_every,
    )
    run.resume(args.resume)
    return run


def _require_own_weights(args: argparse.Namespace) -> None:
    if not args.weights:
        return
    start = Path(args.weights).resolve()
    if start in {(session_folder(args) / f"{args.session_name}{end}").resolve() for end in WEIGHTS}:
        raise InputError(
            f"--weights {args.weights} are what session {session_folder(args)} writes; give this "
            "training another --session_name"
        )


def training_facts(run: TrainingRun) -> dict[str, Any]:
    """What weights say of their training: settings, iterations, commit."""
    return {"settings": run.settings, "iterations": run.step, "commit": git_commit()}


def log_validation(
    run: TrainingRun, measures: dict[str, float], panels: Sequence[np.ndarray], kind: str
) -> None:
    """To TensorBoard: measures, named val_*, and pictures (H, W, 3) uint8 of this kind."""
    run.log.scalars(
        {f"val/{name.removeprefix('val_')}": value for name, value in measures.items()}, run.step
    )
    for index, panel in enumerate(panels):
        run.log.panel(f"{kind}/{index}", panel, run.step)


def end_session(
    run: TrainingRun, path: Path, save: Callable[[Path, dict], None], note: str = ""
) -> None:
    """Have rank 0 write the final weights by save(path, training_facts), log it, say so and leave
    the session's folder.

    Weights of a session that had finished before stay as they are, so that what was made with them
    stays theirs: what they say of commit and machine would be other bytes.
    """
    if not is_main():
        return
    try:
        if _is_written(run, path):
            note = f", finished before{note}"
        else:
            save(path, training_facts(run))
        run.log.line("end", step=run.step, weights=str(path))
        run.log.close()
        print(f"weights: {path}{note}")
    finally:
        run.leave_folder()


def _is_written(run: TrainingRun, path: Path) -> bool:
    """Whether nothing was left to be trained, and path has, whole, what the checkpoint has."""
    if run.begun_at < run.max_step or not path.is_file():
        return False
    try:
        state = read_weights(path).get("state_dict")
    except InputError:  # damaged
        return False
    own = {name: value.detach().cpu() for name, value in run.net.named_parameters()}
    return isinstance(state, dict) and all(
        isinstance(state.get(name), Tensor) and torch.equal(state[name], value)
        for name, value in own.items()
    )
