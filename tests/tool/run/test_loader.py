"""Loaders: signals are the main process's, and none is lost while workers start."""

import signal
import subprocess
import sys

import pytest

from tool.run.loader import Loader, ignore_signals
from tool.run.steps import ROOT


def test_workers_ignore_the_signals_of_the_group():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ignore_signals(0)
        assert all(signal.getsignal(number) == signal.SIG_IGN for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_gives_what_dataloader_gives(num_workers):
    given = [float(batch) for batch in Loader([1.0, 2.0, 3.0], num_workers=num_workers)]
    assert given == [1.0, 2.0, 3.0]


SCRIPT = """
import os, signal
from {module} import {name} as Loader
signal.signal(signal.SIGINT, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    print(len(list(Loader([1, 2, 3], num_workers=1))))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [("tool.run.loader", "Loader", "interrupted"), ("torch.utils.data", "DataLoader", "3")],
    ids=["ours", "torch's, which loses it"],
)
def test_ctrl_c_in_the_moment_of_a_fork_is_not_lost(module, name, expected):
    script = SCRIPT.format(module=module, name=name)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == [expected], done.stderr
    assert ("KeyboardInterrupt" in done.stderr) == (expected == "3")
