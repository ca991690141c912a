"""Choice of device and number format."""

import contextlib
import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tool.errors import InputError
from tool.run.device import (
    GIVE_BACK,
    KEEP,
    KEEP_SMALL,
    LARGE,
    autocast,
    choose_device,
    give_back_free_memory,
    is_large,
    set_allocator,
)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_that_is_there(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    assert choose_device("auto") == torch.device(expected)


def test_cpu_is_always_there():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_takes_every_allocator_setting():
    assert set_allocator(GIVE_BACK)
    assert set_allocator(KEEP_SMALL)
    assert set_allocator(KEEP)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not set_allocator(KEEP)
    assert not give_back_free_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_free_memory_between_used_blocks_is_given_back():
    """In a process of its own: this one may hold the blocks elsewhere."""
    code = (
        "import ctypes; from tool.run.device import give_back_free_memory, set_allocator, KEEP\n"
        "set_allocator(KEEP)\n"
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; libc.free.argtypes = "
        "[ctypes.c_void_p]\n"
        "blocks = [libc.malloc(2**20) for _ in range(40)]\n"
        "[ctypes.memset(block, 1, 2**20) for block in blocks]\n"
        "[libc.free(block) for block in blocks[:-1]]\n"
        "print(give_back_free_memory(), give_back_free_memory())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert run.stdout.split()[0] == "True"


def test_an_image_is_large_by_its_largest_scale():
    small, at_most, large = (
        torch.empty(3, side, 1).expand(-1, -1, 1000)
        for side in (100, LARGE // 1000, LARGE // 1000 + 1)
    )
    assert not is_large([small, at_most])
    assert is_large([large, small])
    assert is_large([small, large])


@pytest.mark.parametrize("name", ["cuda:99", "gpu", ""])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(InputError) as error:
        choose_device(name)
    assert str(error.value).startswith(f"--device {name} is not available here: ")
    assert str(error.value).endswith("; use --device auto")


def test_precision_is_that_of_the_convolutions():
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 1, 1)
    device = torch.device("cpu")
    with autocast(device, "fp32"):
        assert torch.nn.functional.conv2d(x, weight).dtype == torch.float32
    with autocast(device, "bf16"):
        assert torch.nn.functional.conv2d(x, weight).dtype == torch.bfloat16
    assert isinstance(autocast(device, "fp32"), contextlib.nullcontext)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_float32_is_rounded_to_tf32_on_request_alone(monkeypatch, precision):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with autocast(torch.device("cpu"), precision):
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
    rounded = torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert rounded == torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    with torch.backends.cudnn.flags(enabled=True):  # reads what was set, and may not refuse
        pass
