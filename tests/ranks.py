"""Runs a function in several ranks of one job: forked processes of this one, which have its modules
loaded, talking by gloo.
"""

import contextlib
import io
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from tool.run.distributed import join, leave


def run_ranks(function: Callable[[int], Any], ranks: int = 2, timeout: float = 60) -> list[Any]:
    """[function(0), function(1), ...], each computed by a rank that has joined the others.

    A rank that raises gives "Type: message" (an exit its status) in place of its result. Fails if
    one has not ended within timeout seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for rank in range(ranks):
        receiver, sender = context.Pipe(duplex=False)
        environment = {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        environment |= {"GLOO_SOCKET_IFNAME": "lo"}
        process = context.Process(
            target=_rank, args=(function, rank, environment, sender), daemon=False
        )
        process.start()
        sender.close()
        pipes.append(receiver)
        processes.append(process)
    try:
        results = []
        for rank, receiver in enumerate(pipes):
            assert receiver.poll(timeout), f"rank {rank} hangs"
            results.append(torch.load(io.BytesIO(receiver.recv_bytes()), weights_only=False))
        return results
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(function: Callable[[int], Any], rank: int, environment: dict[str, str], sender) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    try:
        join(torch.device("cpu"))
        result = function(rank)
        leave()
    except SystemExit as exit:
        result = exit.code
    except BaseException as error:
        with contextlib.suppress(OSError):  # a test may have limited what can be written
            traceback.print_exc()
        result = f"{type(error).__name__}: {error}"
    buffer = io.BytesIO()  # a pipe would share tensors' memory, which ends with this process
    torch.save(result, buffer)
    sender.send_bytes(buffer.getvalue())
    sender.close()
