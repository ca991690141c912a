"""The progress bar: often on a terminal, seldom in a log file, once among several processes."""

import io
import sys

import pytest

from tool.run.progress import LOG_SECONDS, progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "interval"), [(_Terminal(), 0.1), (io.StringIO(), LOG_SECONDS)])
def test_a_log_file_sees_it_seldom(monkeypatch, stream, interval):
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress(range(1000), desc="work", unit="img")
    assert bar.mininterval == interval
    assert list(bar) == list(range(1000))
    states = stream.getvalue().split("\r")[1:]
    assert "1000/1000" in states[-1]
    assert len(states) == 2 or isinstance(stream, _Terminal)  # the start and the end


def test_other_ranks_show_none(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(progress(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
