"""Choice of the compute device and of its number formats."""

import contextlib

import torch

from tool.errors import InputError

PRECISIONS = ("fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """The device of `--device`: "auto" takes CUDA, then Apple MPS, then the CPU. Raises InputError when the named one is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} is not available here: {str(error).splitlines()[0]}; use --device auto") from error
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Autocast to bf16 on device, or nothing for "fp32". Correlation, normalisation and losses stay in float32 by themselves."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
