"""The server of a page: its port, and the photographs that browsers send."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.images import write_image
from tool.run import web_server

ROOT = Path(__file__).parents[3]


def test_a_port_that_is_taken_is_one_line():
    with web_server.listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
            web_server.listen("127.0.0.1", port)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(web_server.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_killed_pages_left_goes_and_what_others_use_stays(temporary):
    names = ("left", "used", "young")
    left, used, young = (temporary / f"{web_server.UPLOADS}{name}" for name in names)
    for folder in (left, used, young):
        folder.mkdir()
        write_image(folder / "photograph.png", np.zeros((2, 2, 3), np.uint8))
    program = (
        "import sys; from pathlib import Path; from tool.file.atomic import hold\n"
        "held = hold(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(used / web_server.LOCK)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as other:
        other.stdout.readline()
        for folder in (left, used):
            os.utime(folder, (0, 0))
        with web_server.upload_folder() as own:
            assert set(temporary.iterdir()) == {used, young, Path(own)}
        assert set(temporary.iterdir()) == {used, young}
        other.stdin.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_photographs(temporary, number):
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    for one in before:
        signal.signal(one, signal.SIG_DFL)
    web_server.exit_at_signals()
    try:
        with pytest.raises(SystemExit) as ended, web_server.upload_folder():
            os.kill(os.getpid(), number)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert ended.value.code == 128 + signal.SIGTERM
    assert not list(temporary.iterdir())
