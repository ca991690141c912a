"""Work on many images in several processes, with a progress bar."""

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm import tqdm

from tool.shards import is_main

Item = TypeVar("Item")
Result = TypeVar("Result")


def pool_map(function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, description: str) -> list[Result]:
    """[function(item) for item in items], computed by num_workers processes (0 and 1: by this one); unit of the bar: images.

    function: importable by its name, or a functools.partial of one. The first error ends the work and is raised here.
    """
    bar = {"total": len(items), "desc": description, "unit": "img", "dynamic_ncols": True, "disable": not is_main()}
    if num_workers <= 1 or len(items) <= 1:
        return list(tqdm(map(function, items), **bar))
    # Spawned, not forked: the caller may hold threads or a GPU.
    workers = min(num_workers, len(items))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupts) as pool:
        return list(tqdm(pool.map(function, items, chunksize=4), **bar))


@contextlib.contextmanager
def background_calls(num_workers: int) -> Iterator[Callable[..., None]]:
    """Give a function call(function, *arguments) that has num_workers processes (0: this one, at once) do it, and wait for all at the end.

    function: importable by its name. It blocks while two calls a process are waiting; the first error of a call is raised by a
    later one or at the end.
    """
    if num_workers == 0:
        yield lambda function, *arguments: function(*arguments)
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_ignore_interrupts) as pool:
        pending: deque[Future] = deque()

        def call(function: Callable, *arguments: Any) -> None:
            while len(pending) >= 2 * num_workers:
                pending.popleft().result()
            pending.append(pool.submit(function, *arguments))

        try:
            yield call
            while pending:
                pending.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole process group; the main process answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
