"""Work on images one after another, on a CPU several of them at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from tool.run.pool import interrupts_blocked

Sample = TypeVar("Sample")
Result = TypeVar("Result")

LANES = 4  # images at once at most: each holds its maps


def side_by_side(
    function: Callable[[Sample], Result],
    samples: Iterable[Sample],
    device: torch.device,
    is_alone: Callable[[Sample], bool],
) -> Iterator[tuple[Sample, Result]]:
    """(sample, function(sample)) of each sample, in their order.

    On a CPU up to LANES of them are computed at once, each in a thread with its share of torch's
    threads: the maps of one image are too small to keep all cores busy, and cores that work on
    different images need not wait for each other (benchmarks/RESULTS.md). With as many threads,
    function gives the same at every run.

    is_alone: whether a sample, such as a large image, has all threads and the memory to itself. The
    first error, of samples or of function, ends the work and is raised here, after what came before
    it.
    """
    threads = torch.get_num_threads()
    lanes = min(LANES, threads) if device.type == "cpu" else 1
    if lanes == 1:
        for sample in samples:
            yield sample, function(sample)
        return
    # torch counts threads for each of its callers
    pool = ThreadPoolExecutor(lanes, "image", torch.set_num_threads, (threads // lanes,))
    pending: deque[tuple[Sample, Future]] = deque()

    def finish(waiting: int) -> Iterator[tuple[Sample, Result]]:
        """The oldest ones, until so many are waiting."""
        while len(pending) > waiting:
            sample, future = pending.popleft()
            yield sample, future.result()

    try:
        left = iter(samples)
        while True:
            try:
                sample = next(left)
            except StopIteration:
                break
            except Exception:
                yield from finish(0)
                raise
            if is_alone(sample):
                yield from finish(0)
                yield sample, function(sample)
                continue
            pending.append((sample, pool.submit(function, sample)))
            yield from finish(lanes)
        yield from finish(0)
    finally:
        with interrupts_blocked():  # Python 3.11 does not survive one while it joins a thread
            pool.shutdown(cancel_futures=True)
