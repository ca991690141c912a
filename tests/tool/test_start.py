"""How OpenMP threads wait, as the runtime that torch brings says; the names of tool.choices."""

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from network.cam_steps import STEPS
from network.expansion_inference import WALKS
from network.seg import HEADS
from tests.processes import wait_until_gone
from tool import choices
from tool.start import SPINS, TORCHRUN, WAIT_SETTINGS

ROOT = Path(__file__).parents[2]
GOMP = "libgomp.so.1"
# Loads the runtime alone, which torch's import takes seconds for.
LOAD = "import sys, tool.start, ctypes; ctypes.CDLL(sys.argv[1])"


def settings_of_the_runtime(**given: str) -> dict[str, str]:
    """OpenMP's settings in a process that has imported tool.start and then loaded the runtime."""
    (folder,) = importlib.util.find_spec("torch").submodule_search_locations
    library = Path(folder) / "lib" / GOMP
    if not library.is_file():
        pytest.skip("this torch brings another OpenMP runtime")
    environment = {name: os.environ[name] for name in os.environ if name not in WAIT_SETTINGS}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **given}
    words = [sys.executable, "-c", LOAD, str(library)]
    run = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    lines = (line.partition("=") for line in run.stderr.splitlines())
    return {name.split()[-1]: value.strip(" '") for name, equals, value in lines if equals}


def test_threads_soon_sleep_where_they_wait():
    settings = settings_of_the_runtime()
    assert (settings["OMP_WAIT_POLICY"], settings["GOMP_SPINCOUNT"]) == ("PASSIVE", str(SPINS))


@pytest.mark.parametrize(
    ("name", "value", "spins"), [("GOMP_SPINCOUNT", "77", "77"), ("KMP_BLOCKTIME", "9", "300000")]
)
def test_what_the_user_says_of_waiting_stays(name, value, spins):
    assert settings_of_the_runtime(**{name: value})["GOMP_SPINCOUNT"] == spins


def test_a_wait_policy_of_the_user_stays():
    assert settings_of_the_runtime(OMP_WAIT_POLICY="ACTIVE")["OMP_WAIT_POLICY"] == "ACTIVE"


def test_choices_are_what_their_modules_have():
    assert set(choices.METHODS) == set(STEPS)
    assert set(choices.ARCHITECTURES) == set(HEADS)
    assert set(choices.WALK_PRESETS) == set(WALKS)


INTERRUPTED = """
import os, signal
from tool.errors import run_script
from tool.start import answer_flags
signal.signal(signal.SIGINT, signal.{handler})
answer_flags("voc12.prepare_flags", None)
interrupt = lambda *_: os.kill(os.getpid(), signal.SIGINT)
if {importing}:
    interrupt()
run_script(interrupt, lambda: None)
"""


@pytest.mark.parametrize(
    ("importing", "handler", "status", "said"),
    [
        (True, "default_int_handler", -signal.SIGINT, ""),
        (False, "default_int_handler", 130, "interrupted\n"),
        (True, "SIG_IGN", 0, ""),  # as of a background job, which Ctrl-C is not for
    ],
)
def test_ctrl_c_while_a_script_imports_says_nothing(importing, handler, status, said):
    script = INTERRUPTED.format(importing=importing, handler=handler)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (status, said)


def scripts() -> list[Path]:
    """All that users run."""
    folders = (ROOT, ROOT / "voc12", ROOT / "voc12" / "sample", ROOT / "experiments")
    found = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return [path for path in found if "    run_script(" in path.read_text()]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.stem)
def test_scripts_can_be_interrupted_before_they_import(path):
    tree = ast.parse(path.read_text()).body
    _, first, then = map(ast.unparse, tree[:3])
    assert first.startswith("from tool.start import ")
    flags = re.match(
        r"if __name__ == '__main__':\n    (?:end_at_ctrl_c\(|answer_flags\('(.*)', )", then
    )
    assert flags, then
    if flags[1]:  # the flags that are answered are those that the script has
        parsers = [
            node.module
            for node in tree
            if isinstance(node, ast.ImportFrom) and "parse_args" in {its.name for its in node.names}
        ]
        assert parsers == [flags[1]]


RANK = """
import os, time
from tool.start import answer_flags
answer_flags("voc12.prepare_flags", None)
print(os.getpid(), flush=True)
time.sleep(40)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_rank_ends_where_torchrun_is_killed():
    words = [
        sys.executable,
        "-c",
        f"import subprocess; subprocess.run({[sys.executable, '-c', RANK]})",
    ]
    environment = os.environ | {TORCHRUN: "none"}
    agent = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    rank = int(agent.stdout.readline())
    agent.kill()
    agent.wait()
    with agent.stdout:
        assert wait_until_gone(rank)
