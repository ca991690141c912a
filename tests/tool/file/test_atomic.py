"""Files are written whole or not at all, and say where they come from."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tool.errors import InputError
from tool.file import atomic
from tool.file.atomic import (
    append_json_line,
    append_text,
    atomic_write,
    hold,
    read_json_lines,
    remove_leftovers,
    write_json,
)
from tool.file.digests import digest, file_digest
from tool.file.require import require_dir, require_file
from tool.run import run_log
from tool.run.run_log import git_commit

ROOT = Path(__file__).parents[3]


def test_text_and_bytes_are_written_and_folders_made(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "text", "w") as file:
        file.write("Größe\n")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "Größe\n".encode()
    with atomic_write(tmp_path / "bytes") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


def _write_half(file, error: type[BaseException]) -> None:
    file.write(b"new, half")
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_after_an_error_the_old_content_is_intact_and_nothing_is_left(tmp_path, error, old):
    path = tmp_path / "a"
    if old:
        path.write_bytes(old)
    with pytest.raises(error), atomic_write(path) as file:
        _write_half(file, error)
    assert [entry.name for entry in tmp_path.iterdir()] == (["a"] if old else [])
    assert not old or path.read_bytes() == old


def test_a_reader_sees_the_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_mode_of_the_file_follows_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"x")
        assert os.umask(mask) == mask  # asking for it does not change it
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_write_json_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2.5, None]}
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2.5, None]}


def test_file_digest_is_the_start_of_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()[:16]


@pytest.mark.parametrize(("require", "there"), [(require_dir, "folder"), (require_file, "file")])
def test_require_returns_the_path_or_names_it(tmp_path, require, there):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert require(str(tmp_path / there), "data", "get it") == tmp_path / there
    for wrong in {"folder", "file", "none"} - {there}:
        with pytest.raises(InputError) as error:
            require(tmp_path / wrong, "data", "get it")
        assert str(error.value) == f"data not found: {tmp_path / wrong}; get it"


# ============ what is no regular file ============
def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a.json")  # to nothing yet
    for value in (1, 2):
        write_json(tmp_path / "link", value)
        assert (tmp_path / "link").is_symlink()
        assert json.loads((tmp_path / "real" / "a.json").read_text()) == value
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["a.json"]


def test_a_folder_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(IsADirectoryError) as error, atomic_write(path):
            pytest.fail("opened")
        assert error.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_device_stays_a_device_and_a_full_one_is_named(tmp_path):
    write_json("/dev/null", {"a": 1})
    (tmp_path / "full").symlink_to("/dev/full")
    for path in ("/dev/full", tmp_path / "full"):
        with pytest.raises(OSError, match="No space left") as error:
            write_json(path, {"a": 1})
        assert error.value.filename == str(path)
        with pytest.raises(OSError, match="No space left") as error:
            append_text(path, "report")
        assert error.value.filename == str(path)
    assert Path("/dev/full").is_char_device()
    assert Path("/dev/null").is_char_device()


def test_a_disk_without_room_for_another_file_names_the_file(tmp_path, monkeypatch):
    """And not the temporary one, which no one knows."""

    def full(path, *_, **_how):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(atomic.os, "open", full)
    with pytest.raises(OSError, match="No space left") as error, atomic_write(tmp_path / "a.json"):
        pytest.fail("there is no file to write to")
    assert error.value.filename == str(tmp_path / "a.json")


def test_a_pipe_gets_the_content_once_it_is_whole(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", "import sys; sys.stdout.write(open(sys.argv[1]).read())"]
    with subprocess.Popen(
        [*command, str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True
    ) as reader:
        write_json(tmp_path / "pipe", [1])
        assert reader.stdout.read() == "[\n  1\n]\n"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("out", ["/dev/stdout", "out.txt"])
def test_the_file_that_stdout_goes_to_gets_both(tmp_path, out):
    code = (
        "import sys; from tool.file.atomic import write_json; print('before');"
        "write_json(sys.argv[1], 1); print('after')"
    )
    with (tmp_path / "out.txt").open("w") as file:
        path = tmp_path / out  # an absolute one stays as it is
        command = [sys.executable, "-c", code, str(path)]
        subprocess.run(command, stdout=file, check=True, cwd=ROOT)
    assert (tmp_path / "out.txt").read_text() == "before\n1\nafter\n"


def test_what_killed_writers_left_is_removed(tmp_path):
    code = (
        "import os, sys; from tool.file.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: file.write(b'x'); os.kill(os.getpid(), 9)"
    )
    write_json(tmp_path / "log.part", 1)
    (tmp_path / ".hidden").touch()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pth")], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 3
    assert remove_leftovers(tmp_path, "b") == 0
    assert remove_leftovers(tmp_path, "b", "a") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "log.part"]
    assert remove_leftovers(tmp_path / "none", "a") == 0


def test_a_lock_that_is_a_link_does_not_empty_its_target(tmp_path):
    (tmp_path / "thesis").write_text("long")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis")
    hold(tmp_path / "lock").close()
    assert (tmp_path / "thesis").read_text() == "long"


# ============ JSON lines ============
def test_lines_that_a_killed_writer_left_are_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"step": 1, "path": tmp_path})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1, "path": str(tmp_path)}]
    append_json_line(path, {"step": 3})
    assert [entry["step"] for entry in read_json_lines(path)] == [1, 3]
    assert path.read_text().count("\n") == 3


def test_numbers_that_json_lacks_are_text(tmp_path):
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"loss": float("nan"), "worst": float("inf"), "prior": 0.5})
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict == {"loss": "nan", "worst": "inf", "prior": 0.5}


def test_a_file_without_a_whole_line_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xff\xd8\n3\n")
    with pytest.raises(InputError, match=r"log\.jsonl has no line that is a JSON object"):
        read_json_lines(path)


# ============ git_commit ============
def test_git_commit_is_unknown_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "__file__", str(tmp_path / "tool" / "run" / "run_log.py"))
    assert git_commit() == "unknown"


def test_git_commit_is_unknown_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


def test_git_commit_says_when_tracked_files_are_changed(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "a")
    monkeypatch.setattr(run_log, "__file__", str(tmp_path / "tool" / "run" / "run_log.py"))
    commit = git("rev-parse", "HEAD")
    (tmp_path / "untracked").touch()
    assert git_commit() == commit
    (tmp_path / "a").write_text("2")
    assert git_commit() == f"{commit}-dirty"


HOLDS = (
    "import sys; from tool.file.atomic import hold; file = hold(sys.argv[1]); "
    "print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_is_one_process_s_until_it_ends(tmp_path):
    path = tmp_path / "new" / "lock"
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            hold(path)
        waited = []

        def end_the_other() -> None:
            waited.append(True)
            other.kill()

        hold(path, end_the_other).close()
    assert waited == [True]
    hold(path, lambda: pytest.fail("nobody holds it")).close()


def test_a_disk_without_locks_grants_all(tmp_path, monkeypatch):
    def lockf(_file, _how) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(atomic.fcntl, "lockf", lockf)
    hold(tmp_path / "lock").close()


def test_digest_ignores_order_and_sees_values():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_the_next_writer_uses_up_what_a_killed_one_left(tmp_path):
    """No temporary file stays where the same file is written again."""
    path = tmp_path / "a"
    write = "import os, sys; from tool.file.atomic import atomic_write\n"
    write += "with atomic_write(sys.argv[1]) as file: file.write(b'x' * 99); file.flush(); "
    write += "os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", write, str(path)], cwd=ROOT)
    assert [left.name for left in tmp_path.iterdir()] == [".a.part"]
    with atomic_write(path) as file:
        file.write(b"new")
    assert [left.name for left in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o666 & ~atomic._umask()


def test_two_writers_of_a_file_at_once_keep_apart(tmp_path):
    path = tmp_path / "a"
    with atomic_write(path) as first:
        first.write(b"one, ")
        with atomic_write(path) as second:
            second.write(b"two")
        assert path.read_bytes() == b"two"
        with pytest.raises(ValueError), atomic_write(path) as third:  # noqa: PT011
            _write_half(third, ValueError)
        first.write(b"and one")
    assert path.read_bytes() == b"one, and one"
    assert [left.name for left in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    (tmp_path / ".a.part").symlink_to(other)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert other.read_bytes() == b"mine"
