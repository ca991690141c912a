"""Work on many images in several processes, with a progress bar."""

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from typing import Any, TypeVar

from tool.run.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerPool(ProcessPoolExecutor):
    """Processes that are spawned, not forked, since the caller may hold threads or a GPU, and that
    Ctrl-C does not reach.

    A terminal sends it to the whole group. The main process answers it; a worker that it killed,
    while starting or at work, would leave the pool waiting for a result. Where the main process is
    killed its workers end too.
    """

    def __init__(
        self, num_workers: int, initializer: Callable | None = None, initargs: tuple = ()
    ) -> None:
        super().__init__(
            num_workers,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(initializer, initargs),
        )

    def submit(self, function: Callable, /, *args: Any, **keywords: Any) -> Future:
        """As ProcessPoolExecutor's; a process that it starts inherits that SIGINT is blocked."""
        resource_tracker.ensure_running()  # it unblocks SIGINT when it starts
        with interrupts_blocked():
            return super().submit(function, *args, **keywords)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Wait for all calls; after an error only for those at work, and through further Ctrl-C,
        which Python 3.11 would not survive: it takes a thread whose join was interrupted for ended.
        """
        if kind is None:
            self.shutdown()
            return
        with interrupts_blocked():
            self.shutdown(cancel_futures=True)


def _begin(initializer: Callable | None, initargs: tuple) -> None:
    """What a worker does first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    """End this process when the main one has ended. It holds both ends of the pipe that calls come
    through, so it would wait for ever.
    """
    wait([parent_process().sentinel])
    os._exit(1)


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Have SIGINT wait, here and in processes that are started here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pool_map(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, description: str
) -> list[Result]:
    """[function(item) for item in items], computed by num_workers processes (0 and 1: by this one);
    unit of the bar: images.

    function: importable by its name, or a functools.partial of one. The first error ends the work
    and is raised here.
    """
    bar = {"total": len(items), "desc": description, "unit": "img"}
    if num_workers <= 1 or len(items) <= 1:
        return list(progress(map(function, items), **bar))
    with WorkerPool(min(num_workers, len(items))) as pool:
        return list(progress(pool.map(function, items, chunksize=4), **bar))


@contextlib.contextmanager
def background_calls(
    num_workers: int, take: Callable[[Any], None] = lambda result: None
) -> Iterator[Callable[..., None]]:
    """Give a function call(function, *arguments) that has num_workers processes (0: this one, at
    once) do it, and wait for all at the end.

    function: importable by its name. It blocks while two calls a process are waiting; the first
    error of a call is raised by a later one or at the end.
    take: gets what each call returns, in their order
    """
    if num_workers == 0:
        yield lambda function, *arguments: take(function(*arguments))
        return
    with WorkerPool(num_workers) as pool:
        pending: deque[Future] = deque()

        def call(function: Callable, *arguments: Any) -> None:
            while len(pending) >= 2 * num_workers:
                take(pending.popleft().result())
            pending.append(pool.submit(function, *arguments))

        yield call
        while pending:
            take(pending.popleft().result())
