"""What scripts import before they answer --help, counted in processes of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
MODULES = ("voc12.prepare", "voc12.coco", "voc12.sample")
SLOW = {"torch", "torchvision", "timm", "scipy", "skimage", "matplotlib", "onnxruntime"}


def imported(*words: str) -> tuple[int, set[str], str]:
    """(exit status, top-level modules that Python imported, its output) of a command."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, cwd=ROOT
    )
    names = re.findall(r"^import time: .*\| +([\w.]+)$", run.stderr, re.MULTILINE)
    return run.returncode, {name.partition(".")[0] for name in names}, run.stdout


@pytest.mark.parametrize("words", [*((name,) for name in SCRIPTS), *(("-m", m) for m in MODULES)])
def test_help_waits_for_no_slow_import(words):
    status, names, output = imported(*words, "--help")
    assert status == 0
    assert output.startswith("usage: ")
    assert "argparse" in names  # the listing is read right
    assert names & SLOW == set()


def test_a_mistake_in_the_flags_waits_for_no_slow_import():
    status, names, _ = imported("train_cpn.py", "--batch_size", "none")
    assert status == 2
    assert names & SLOW == set()
