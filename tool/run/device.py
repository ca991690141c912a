"""Choice of the compute device and of its number formats."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Sequence

import torch

from tool.errors import InputError

# Parameters of glibc's mallopt, and their values: a process that keeps its freed memory, one that
# keeps all but its largest blocks, and glibc's defaults.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEEP = {M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0}
# 32 MiB is the most that glibc takes
KEEP_SMALL = {
    M_TRIM_THRESHOLD: -1,
    M_MMAP_THRESHOLD: 32 * 2**20,
    M_MMAP_MAX: 65536,
}
GIVE_BACK = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65536}
# Pixels over which an image has the machine's memory to itself at inference.
LARGE = 4_000_000


def choose_device(name: str, allocator: dict[int, int] = KEEP) -> torch.device:
    """The device of `--device`: "auto" takes CUDA, then Apple MPS, then the CPU. Raises InputError
    when the named one is absent.

    "auto" and "cuda" are this process's own GPU where torchrun starts several processes on a
    machine (LOCAL_RANK).
    allocator: how a CPU process treats the memory it frees from here on (set_allocator). KEEP is
    for training, whose steps are alike; KEEP_SMALL for inference, whose images and scales differ,
    so that freed blocks of tens of MiB rarely fit the next one.
    """
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name} is not available here: {str(error).splitlines()[0]}; use --device "
            "auto"
        ) from error
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what NCCL and the pinned memory of loaders use
    if device.type == "cpu":
        set_allocator(allocator)
    return device


def set_allocator(parameters: dict[int, int]) -> bool:
    """Whether glibc took these mallopt parameters; False, and nothing done, with another C library.

    By default glibc returns every large block to the kernel and takes it back, zeroed page by page,
    at the next step of a training: two thirds of the CPU's time here (benchmarks/RESULTS.md). A
    process that keeps its memory is no larger than its peak, plus some fragmentation.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    taken = [mallopt(name, value) == 1 for name, value in parameters.items()]
    return all(taken)


def give_back_free_memory() -> bool:
    """Return to the kernel what lies free between used blocks, as after loading weights; whether
    there was any (glibc alone).
    """
    malloc_trim = _c_function("malloc_trim")
    return malloc_trim is not None and malloc_trim(0) == 1


def is_large(scaled: Sequence[torch.Tensor]) -> bool:
    """Whether an image, given at its scales, (3, h, w) each, is over LARGE at one of them."""
    return any(image[0].numel() > LARGE for image in scaled)


def _c_function(name: str) -> Callable[..., int] | None:
    """The C library's function of a name, None where it has none."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Autocast to bf16 on device, or nothing for "fp32" and "tf32". Correlation, normalisation and
    losses stay in float32 by themselves.

    From here on, as a backward pass comes after, CUDA's convolutions in float32 round to TF32 for
    "tf32" alone, on GPUs that can; torch's own default is that all do.
    """
    # by these, which all releases of torch have: of cudnn.conv.fp32_precision, set alone,
    # torch.backends.cudnn.flags makes an error
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = False
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
