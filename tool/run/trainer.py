"""The training loop that every trainer shares: steps, logs, checkpoints, resuming, clean exits, one
process or several.

Several processes (tool/run/distributed.py) go in step: each computes its part of every batch, and
what one of them notices, a signal, a loss that is not finite, the time to save, all of them act on
after the same iteration. Rank 0 alone writes.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from tool.errors import InputError
from tool.file.atomic import hold, remove_leftovers
from tool.file.checkpoint import load_torch, save_torch
from tool.run.device import autocast
from tool.run.distributed import data_parallel, gather, leave, mean_over_ranks
from tool.run.progress import progress
from tool.run.run_log import RunLog, provenance
from tool.run.shards import is_main, rank, world_size
from tool.run.training_flags import FREE_SETTINGS, WEIGHT_FORMATS

CHECKPOINT = "checkpoint.pth"
LOCK = ".training"
BEST = "_best"
# what the names of a session's weights have after its own
WEIGHTS = [f"{best}.{one}" for best in ("", BEST) for one in WEIGHT_FORMATS]
RANK_SEED_STEP = 100_003  # between the dropout seeds of two ranks


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed the initial weights and dropout; samples draw from (seed, epoch, index) on their own.

    deterministic: have CUDA repeat its results bit for bit, at some cost in speed, or raise where
    it cannot; CPUs do so anyway. To be asked for before anything is computed on the device.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still read it
    torch.manual_seed(seed)
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)


@dataclass
class TrainingRun:
    """What a training changes, and where it writes.

    folder:   results/<session_name>
    settings: all flags, by name; compared on resume and written to log and checkpoint
    defaults: the flags' defaults, by name: what a checkpoint was made with that is older than a
              flag
    free:     settings that may differ between a run and its continuation
    data:     digest of what it trains on, images, labels and classes, which may not differ
    sources:  flag of a folder -> file name -> digest of what is learnt from it, photographs, masks
              or seeds (tool.run.session.file_contents), which may not differ either
    step:     iterations done
    begun_at: those of an earlier process
    epoch:    epochs done, validation included
    clip_norm: largest norm of the whole gradient, 0 for any
    """

    net: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    device: torch.device
    folder: Path
    settings: dict[str, Any]
    log: RunLog
    epochs: int
    steps_per_epoch: int
    defaults: dict[str, Any] = field(default_factory=dict)
    free: tuple[str, ...] = FREE_SETTINGS
    data: str = ""
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    step: int = 0
    begun_at: int = 0
    epoch: int = 0
    precision: str = "fp32"
    accumulate: int = 1
    clip_norm: float = 0.0
    save_minutes: float = 15.0
    log_every: int = 20
    stop_after: int | None = None
    _stop_signal: int | None = field(default=None, init=False)
    _lock: IO | None = field(default=None, init=False)
    _last_iteration: float = field(default_factory=time.perf_counter, init=False)
    _last_ids: list[str] = field(default_factory=list, init=False)
    _last_save: float = field(default_factory=time.monotonic, init=False)

    @property
    def max_step(self) -> int:
        """Iterations of the whole training."""
        return self.epochs * self.steps_per_epoch

    def save(self) -> None:
        """Write the checkpoint that resume() reads: everything the next iteration depends on. All
        ranks call it, rank 0 writes.

        Raises InputError, and leaves the last checkpoint, when the weights have become NaN or
        infinite: a gradient can be so where the loss is not.
        """
        self._require_finite_weights()
        first, *others = gather(self._random_state())
        self._last_save = time.monotonic()
        if not is_main():
            return
        save_torch(
            self.folder / CHECKPOINT,
            {
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.step,
                "epoch": self.epoch,
                **first,
                "other_ranks": others,
                "settings": self.settings,
                "data": self.data,
                "sources": self.sources,
            },
        )

    def _require_finite_weights(self) -> None:
        bad = [name for name, value in self.net.named_parameters() if not value.isfinite().all()]
        if bad:
            ids = [name for part in gather(self._last_ids) for name in part]
            raise InputError(
                f"{bad[0]} has values that are not finite after iteration {self.step} (last images "
                f"{', '.join(ids)}); the last checkpoint is kept in {self.folder}; lower --lr or "
                "look at these images"
            )

    def _random_state(self) -> dict[str, Any]:
        """Of this process: {rng: the CPU's generator, cuda_rng, mps_rng: [that of its device]}."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        mps = [torch.mps.get_rng_state()] if self.device.type == "mps" else []
        return {"rng": torch.get_rng_state(), "cuda_rng": cuda, "mps_rng": mps}

    def _set_random_state(self, state: dict[str, Any]) -> None:
        ranks = [state, *state.get("other_ranks", [])]
        if len(ranks) != world_size():
            tqdm.write(
                f"the checkpoint is of {len(ranks)} processes, this is one of {world_size()}: "
                "dropout draws other masks"
            )
        if rank() < len(ranks):
            torch.set_rng_state(ranks[rank()]["rng"])
            if self.device.type == "cuda" and ranks[rank()]["cuda_rng"]:
                torch.cuda.set_rng_state(ranks[rank()]["cuda_rng"][0], self.device)
            if self.device.type == "mps" and ranks[rank()].get("mps_rng"):  # of old none
                torch.mps.set_rng_state(ranks[rank()]["mps_rng"][0])

    def resume(self, mode: str) -> None:
        """Continue from the folder's checkpoint, if mode is "auto" and there is one; log a "start"
        or "resume" line. If mode is "never", what the folder has of an earlier training is removed:
        its checkpoint and its weights.

        The folder is this run's alone from here to leave_folder(), or to an error in train().
        Raises InputError when another process has it, when the checkpoint was made with other
        settings or from other files, and when some of the ranks see none.
        """
        self._take_folder()
        try:
            self._resume(mode)
        except BaseException:
            self.leave_folder()
            raise
        self.begun_at = self.step

    def _take_folder(self) -> None:
        if is_main():
            with contextlib.suppress(BlockingIOError):
                self._lock = hold(self.folder / LOCK)
                remove_leftovers(self.folder, CHECKPOINT, self.folder.name)
        if any(gather(is_main() and self._lock is None)):
            raise InputError(
                f"another process is training session {self.folder}; wait for it, or give this "
                "training another --session_name"
            )

    def leave_folder(self) -> None:
        """Let other processes train this session."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _resume(self, mode: str) -> None:
        path = self.folder / CHECKPOINT
        if mode == "never" and is_main():  # else a stopped run would be gone on with from there
            for ending in WEIGHTS:
                (self.folder / f"{self.folder.name}{ending}").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        resumed = mode == "auto" and path.is_file()
        if len(set(gather(resumed))) > 1:
            raise InputError(
                f"not every process sees {path}; give all machines one --results folder, on a "
                "shared disk"
            )
        # the initial weights are those of one seed, dropout draws other masks on each rank
        if rank() > 0:
            torch.manual_seed(torch.initial_seed() + RANK_SEED_STEP * rank())
        if resumed:
            state = load_torch(path, "checkpoint")
            if not _is_checkpoint(state):
                raise InputError(
                    f"{path} is no checkpoint of a training; take it away, or use another "
                    "--session_name"
                )
            self._require_same(state["settings"])
            if state.get("data", self.data) != self.data:  # checkpoints of old have none
                raise InputError(
                    f"session {self.folder} was started with other images, labels or classes; use "
                    "another --session_name, or --resume never to start over"
                )
            self._require_same_sources(state.get("sources"))
            self._load(state, path)
            tqdm.write(f"continuing {self.folder} at iteration {self.step} of {self.max_step}")
        self.log.line(
            "resume" if resumed else "start",
            step=self.step,
            settings=self.settings,
            processes=world_size(),
            **provenance(self.device),
        )

    def _load(self, state: dict[str, Any], path: Path) -> None:
        try:
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
        # values of another network reach torch: whatever it raises means that they do not fit
        except Exception as error:
            raise InputError(
                f"checkpoint {path} does not fit the network: has the class list changed? use "
                "another --session_name, or --resume never to start over"
            ) from error
        try:
            self.schedule.load_state_dict(state["schedule"])
            self.step, self.epoch = state["step"], state["epoch"]
            self._set_random_state(state)
        # values that nobody wrote reach torch: whatever it raises means another file
        except Exception as error:
            raise InputError(
                f"checkpoint {path} is damaged ({type(error).__name__}); --resume never starts over"
            ) from error

    def _require_same(self, saved: dict[str, Any]) -> None:
        saved = self.defaults | saved  # a flag that came later was at its default
        for name in sorted(set(saved) | set(self.settings), key=str):
            before, now = saved.get(name), self.settings.get(name)
            if name not in self.free and not _is_same(before, now):
                raise InputError(
                    f"session {self.folder} was started with --{name} {before}, now it is {now}; "
                    "use the same flags, another --session_name, or --resume never to start over"
                )

    def _require_same_sources(self, saved: Any) -> None:
        """saved: the sources of a checkpoint; of what one of old does not name, anything goes."""
        for flag, now in self.sources.items():
            before = saved.get(flag) if isinstance(saved, dict) else None
            if not isinstance(before, dict):
                continue
            if flag == "weights" and now != before:
                raise InputError(
                    f"--weights {next(iter(now), self.settings.get(flag))} is another file than "
                    f"session {self.folder} was started with; use another --session_name, or "
                    "--resume never to start over"
                )
            if changed := [name for name, made in now.items() if before.get(name) != made]:
                raise InputError(
                    f"{len(changed)} of {len(now)} files in --{flag} {self.settings.get(flag)} are "
                    f"others than session {self.folder} was started with, first {changed[0]}; use "
                    "another --session_name, or --resume never to start over"
                )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask the loop to save and leave after the iteration under way."""

        def request(number: int, _frame: Any) -> None:
            self._stop_signal = number

        previous = {
            number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def train(
        self,
        loader: Callable[[int, int], Iterable[dict]],
        losses_of: Callable[[dict], dict[str, Tensor]],
        on_epoch: Callable[[int], dict[str, Any]],
    ) -> None:
        """Run the remaining iterations; afterwards the folder is this run's still, for its weights.

        loader:    (epoch, iterations to skip) -> batches, dicts of named fields; of several ranks,
                   each one's part of the batch
        losses_of: batch on the device -> named losses with the total as "loss"
        on_epoch:  epoch -> measures to log, called after each epoch (validation), on every rank
        Raises InputError for a loss that is not finite, with the step and the image ids, and for a
        device out of memory.
        """
        step = data_parallel(self.net, losses_of)
        self._last_save, self._last_iteration = time.monotonic(), time.perf_counter()
        bar = progress(total=self.max_step, initial=self.step, unit="it")
        try:
            with self._signals(), bar:
                while self.epoch < self.epochs:
                    self._train_epoch(loader, step, bar)
                    self.log.line("epoch", epoch=self.epoch, step=self.step, **on_epoch(self.epoch))
                    self.epoch += 1
                    self.save()
        except BaseException:
            self.leave_folder()
            raise
        leave()

    def _train_epoch(self, loader: Callable, step: nn.Module, bar: tqdm) -> None:
        """The epoch's remaining iterations: none of a run that was stopped before its
        validation.
        """
        self.net.train()
        with _convolutions_searched():
            for batch in loader(self.epoch, self.step - self.epoch * self.steps_per_epoch):
                stop, save = self._iterate(batch, step, bar)
                if stop or self.step == self.stop_after:
                    self.save()
                    self._leave(stop)
                if save:
                    self.save()
        self.net.eval()
        self.save()  # a validation that fails costs no epoch

    def _iterate(self, batch: dict, step: nn.Module, bar: tqdm) -> tuple[bool, bool]:
        """One step of the optimiser; (whether a rank was asked to stop, whether it is time to
        save).
        """
        count, self._last_ids = len(batch["id"]), list(batch["id"])
        self.optimizer.zero_grad(set_to_none=True)
        parts: list[
            tuple[list[str], Tensor]
        ] = []  # (ids, losses times the part's share of the batch)
        try:
            pieces = list(_split(to_device(batch, self.device), self.accumulate))
            for piece in pieces:
                share = len(piece["id"]) / count
                # Ranks exchange gradients once, with the last piece.
                with contextlib.nullcontext() if piece is pieces[-1] else step.no_sync():
                    with autocast(self.device, self.precision):
                        losses = step(piece)
                    (losses["loss"] * share).backward()
                parts.append(
                    (
                        piece["id"],
                        torch.stack([value.detach().float() for value in losses.values()]) * share,
                    )
                )
        except torch.OutOfMemoryError as error:
            raise InputError(
                "the device ran out of memory; lower --batch_size or --crop_size, raise --accum, "
                "or set --precision bf16"
            ) from error
        late = time.monotonic() - self._last_save > 60 * self.save_minutes
        wishes = torch.tensor([self._stop_signal is not None, late], dtype=torch.float32)
        means = mean_over_ranks(
            torch.cat([sum(values for _, values in parts), wishes.to(self.device)])
        )
        *values, stop, save = means.tolist()
        sums = dict(zip(losses, values, strict=True))
        if not np.isfinite(values).all():
            self._stop_at_non_finite(list(losses), parts)
        if self.clip_norm:
            groups = self.optimizer.param_groups
            trained = [parameter for group in groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.clip_norm)
        self.optimizer.step()
        rate = self.optimizer.param_groups[0]["lr"]
        self.schedule.step()
        self.step += 1
        bar.update()
        now = time.perf_counter()
        speed, self._last_iteration = count * world_size() / (now - self._last_iteration), now
        shown = {name.removeprefix("loss_"): f"{value:.3f}" for name, value in sums.items()}
        bar.set_postfix(shown | {"lr": f"{rate:.1e}", "img/s": f"{speed:.1f}"}, refresh=False)
        self.log.scalars(
            {f"train/{name}": value for name, value in sums.items()}
            | {"train/lr": rate, "train/images_per_s": speed},
            self.step,
        )
        if self.step % self.log_every == 0 or self.step == self.max_step:
            self.log.line(
                "train",
                step=self.step,
                epoch=(self.step - 1) // self.steps_per_epoch,
                lr=rate,
                images_per_s=speed,
                **sums,
            )
        return stop > 0, save > 0

    def _stop_at_non_finite(
        self, names: list[str], parts: list[tuple[list[str], Tensor]]
    ) -> NoReturn:
        """Raise InputError naming the first loss and its images; the same on all ranks."""
        mine = [
            (names[(~value.isfinite()).int().argmax()], ids)
            for ids, value in parts
            if not value.isfinite().all()
        ]
        name, ids = next(bad for ranks in gather(mine) for bad in ranks)
        raise InputError(
            f"{name} is not finite at iteration {self.step} (images {', '.join(ids)}); the last "
            f"checkpoint is kept in {self.folder}; lower --lr or look at these images"
        )

    def _leave(self, signalled: bool) -> NoReturn:
        """Exit as a process does that the signal ended (of ranks that got none themselves:
        SIGTERM), or with 0 without one.
        """
        number = self._stop_signal or (signal.SIGTERM if signalled else None)
        tqdm.write(
            f"stopped at iteration {self.step} of {self.max_step}; the same command continues"
        )
        self.log.line("stop", step=self.step, signal=number)
        self.log.close()
        leave()
        raise SystemExit(128 + number if number else 0)


@contextlib.contextmanager
def _convolutions_searched() -> Iterator[None]:
    """Have cuDNN search for the fastest convolutions of a size, which pays where crops are of one;
    not in a validation, whose photographs have many, each of which would be searched for anew, with
    memory to try in. What it finds may differ between runs.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on device; images in channels_last memory."""
    moved = {}
    for name, value in batch.items():
        if isinstance(value, Tensor):
            value = value.to(device, non_blocking=True)
            if value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
        moved[name] = value
    return moved


def _is_checkpoint(state: dict) -> bool:
    """Whether state has the entries of TrainingRun.save, of their kinds."""
    kinds = {"net": dict, "optimizer": dict, "schedule": dict, "settings": dict}
    kinds |= {"step": int, "epoch": int}
    return all(isinstance(state.get(name), kind) for name, kind in kinds.items())


def _is_same(before: Any, now: Any) -> bool:
    try:
        return bool(before == now)
    except RuntimeError:  # tensors, which no setting is
        return False


def _split(batch: dict, parts: int) -> Iterator[dict]:
    """The batch in `parts` pieces along the first dimension of every field."""
    count = len(batch["id"])
    size = -(-count // parts)
    for start in range(0, count, size):
        yield {name: value[start : start + size] for name, value in batch.items()}
