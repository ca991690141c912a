"""Flags that all trainers have, and the session that they ask for."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tool.device import PRECISIONS
from tool.files import digest
from tool.flags import bool_flag, non_negative_number, positive_int, seed_number, session_settings
from tool.run_log import RunLog
from tool.trainer import FREE_SETTINGS, RESUME_CHOICES, TrainingRun

RESULTS = "results"


def add_machine_flags(optimisation: argparse._ArgumentGroup) -> None:
    """--accum, --precision, --seed, --deterministic and --device."""
    optimisation.add_argument(
        "--accum", type=positive_int, default=1, help="pieces a batch is computed in, to save memory (default %(default)s)"
    )
    optimisation.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of convolutions; losses stay fp32 (default %(default)s)"
    )
    optimisation.add_argument("--seed", type=seed_number, default=0, help="of everything random (default %(default)s)")
    optimisation.add_argument(
        "--deterministic",
        type=bool_flag,
        nargs="?",
        const=True,
        default=False,
        help="have a GPU repeat a run bit for bit, slower; a CPU does so anyway (default false)",
    )
    optimisation.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")


def add_session_flags(output: argparse._ArgumentGroup, session_name: str) -> None:
    """--session_name, --results, --resume, --save_minutes and --log_every."""
    output.add_argument(
        "--session_name", default=session_name, help="folder under --results and name of the weights (default %(default)s)"
    )
    output.add_argument("--results", default=RESULTS, help="where sessions go (default %(default)s)")
    output.add_argument(
        "--resume",
        choices=RESUME_CHOICES,
        default="auto",
        help="continue a session that has a checkpoint, or start over (default %(default)s)",
    )
    output.add_argument(
        "--save_minutes",
        type=non_negative_number,
        default=15,
        help="minutes between checkpoints inside an epoch (default %(default)s)",
    )
    output.add_argument("--log_every", type=positive_int, default=20, help="iterations between log lines (default %(default)s)")


def data_digest(ids: Sequence[str], classes: Sequence[str], labels: np.ndarray | None = None) -> str:
    """What tells one set of training data from another: image ids in their order, class names, image labels where they train."""
    return digest({"ids": list(ids), "classes": list(classes), "labels": None if labels is None else labels.tolist()})


def begin_session(
    args: argparse.Namespace,
    defaults: argparse.Namespace,
    net: nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    device: torch.device,
    epochs: int,
    steps_per_epoch: int,
    data: str,
    free: tuple[str, ...] = (),
) -> TrainingRun:
    """The training that the flags of add_machine_flags and add_session_flags ask for, begun or continued from its checkpoint.

    defaults: the script's flags where none is given, but for the preset; data: data_digest of what is trained on; free: settings
    beside FREE_SETTINGS in which a session may go on otherwise. Raises InputError for a session with other settings.
    """
    folder = Path(args.results) / args.session_name
    run = TrainingRun(
        net=net,
        optimizer=optimizer,
        schedule=schedule,
        device=device,
        folder=folder,
        settings=session_settings(args),
        defaults=session_settings(defaults),
        free=(*FREE_SETTINGS, *free),
        data=data,
        log=RunLog(folder),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        precision=args.precision,
        accumulate=args.accum,
        save_minutes=args.save_minutes,
        log_every=args.log_every,
    )
    run.resume(args.resume)
    return run
