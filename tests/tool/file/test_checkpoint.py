"""Torch files: what is read back, and what a damaged or hostile file does."""

import gzip
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from tool.errors import InputError
from tool.file.checkpoint import load_torch, save_torch

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")


class _WritesMarker:
    """Pickles as a call that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code ran")


@pytest.fixture
def value():
    return {
        "weight": torch.arange(6.0).view(2, 3),
        "step": 3,
        "settings": {"names": ["a", "b"], "range": (1, 2), "none": None},
    }


def test_saved_value_is_read_back(tmp_path, value):
    save_torch(tmp_path / "new" / "a.pth", value)
    loaded = load_torch(tmp_path / "new" / "a.pth")
    assert torch.equal(loaded.pop("weight"), value.pop("weight"))
    assert loaded == value


def test_old_torch_format_is_read(tmp_path, value):
    torch.save(OrderedDict(value), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_torch(tmp_path / "old.pth")["weight"], value["weight"])


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, value):
    path = tmp_path / "a.pth"
    save_torch(path, value)
    with pytest.raises(AttributeError):
        save_torch(path, {"weight": lambda: None})
    assert load_torch(path)["step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_code_in_a_file_does_not_run(tmp_path, legacy):
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    torch.save({"weight": _WritesMarker(marker)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        InputError,
        match=rf"^weights {path} holds a Python object, \w+, which could run code when it is "
        r"loaded, so it is not read; give a file of the state dict alone$",
    ):
        load_torch(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the payload was a real one


def test_plain_pickle_with_code_does_not_run(tmp_path):
    path, marker = tmp_path / "evil.pkl", tmp_path / "marker"
    path.write_bytes(pickle.dumps(_WritesMarker(marker)))
    with pytest.raises(InputError, match=r"^cannot read weights "):
        load_torch(path)
    assert not marker.exists()


def test_missing_file_is_named_with_the_hint(tmp_path):
    with pytest.raises(InputError) as error:
        load_torch(tmp_path / "none.pth", "trained weights", "train first")
    assert str(error.value) == f"trained weights not found: {tmp_path / 'none.pth'}; train first"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_truncated_file_is_refused_wherever_it_ends(tmp_path, value, legacy):
    path = tmp_path / "a.pth"
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    for length in (*range(0, len(data) - 1, max(1, len(data) // 60)), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(
            InputError,
            match=r"^cannot read weights .*; the file is damaged or no plain torch checkpoint$",
        ):
            load_torch(path)


def test_garbage_is_refused_with_one_line(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "garbage.pth"
    for trial in range(200):
        # Behind a pickle's first bytes, so that the opcodes are read.
        path.write_bytes((b"\x80\x02" if trial % 2 else b"") + rng.bytes(int(rng.integers(1, 200))))
        with pytest.raises(InputError) as error:
            load_torch(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of git-lfs; `git lfs pull` fetches the file itself",
        ),
        (
            b"\n<!DOCTYPE html>\n<html>404</html>",
            "a page of HTML or XML, as a download leaves it that failed; download the file again",
        ),
        (b'{"error": 404}', "a JSON file; give the file of the weights themselves"),
        (gzip.compress(b"x" * 99, mtime=0), "a file packed by gzip; unpack it"),
        (
            b"\x89HDF\r\n\x1a\n" + bytes(99),
            "an HDF5 file, as Keras writes it; convert it to a torch file",
        ),
    ],
)
def test_other_files_are_named(tmp_path, content, what):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_torch(path)
    assert str(error.value) == f"weights {path} is {what}"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_programs_and_modules_are_named(tmp_path):
    path = tmp_path / "a.pth"
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)
    with pytest.raises(InputError) as error:
        load_torch(path)
    assert str(error.value) == f"weights {path} is a TorchScript program; give its state dict"
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(
        InputError, match=r"holds a Python object, torch\.nn\.modules\.linear\.Linear,"
    ):
        load_torch(path)


def test_torchs_advice_to_run_what_is_in_a_file_is_not_repeated(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps({"epoch": 3}))  # without torch
    with pytest.raises(InputError) as error:
        load_torch(path)
    assert str(error.value) == (
        f"cannot read weights {path}: its pickle is none that torch wrote; the file is damaged or "
        "no plain torch checkpoint"
    )


def test_another_zip_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(InputError, match=r"^cannot read weights "):
        load_torch(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("value", "kind"), [(torch.zeros(2), "Tensor"), ([1, 2], "list"), (None, "NoneType")]
)
def test_a_file_that_holds_no_dict_is_refused(tmp_path, value, kind):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(InputError) as error:
        load_torch(tmp_path / "a.pth", "checkpoint")
    assert (
        str(error.value) == f"checkpoint {tmp_path / 'a.pth'} holds a {kind}, not a dict of tensors"
    )
