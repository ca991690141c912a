"""What the parity tests share: the stored arrays and the weights that a formula gives."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

PARITY = Path(__file__).parent / "data" / "parity"


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of tests/data/parity/<name>.npz."""
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def formula_tensor(name: str, shape: list[int]) -> torch.Tensor:
    """The reference value of the released CPN network's tensor `name` (rule in the arrays'
    README).
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    n = generator.standard_normal(shape).astype(np.float32)
    kind = name.rsplit(".", 1)[1]
    if "bn" in name:
        value = {"weight": 1 + np.float32(0.1) * n, "running_var": np.exp(np.float32(0.1) * n)}.get(
            kind, np.float32(0.1) * n
        )
        return torch.from_numpy(np.asarray(value, dtype=np.float32))
    gain = 1.0 if name.split(".")[0] in ("fc8", "f9", "f10", "f8_3", "f8_4") else 2.0
    value = n * np.float32(np.sqrt(gain / np.prod(shape[1:])))
    block, layer = name.split(".")[0], name.split(".")[1]
    last = "conv_branch2b2" if block in ("b6", "b7") else "conv_branch2b1"
    if layer == last:
        value = value * np.float32(0.25)
    return torch.from_numpy(value)


def formula_state_dict() -> dict[str, torch.Tensor]:
    """The reference state dict of the released CPN network."""
    entries = json.loads((PARITY / "state_dict_keys.json").read_text())
    return {name: formula_tensor(name, shape) for name, shape, _ in entries}


def relative_error(actual: torch.Tensor | float, expected: np.ndarray | float) -> float:
    """Largest difference relative to the largest reference value."""
    actual = np.asarray(
        actual.detach() if isinstance(actual, torch.Tensor) else actual, dtype=np.float64
    )
    expected = np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
