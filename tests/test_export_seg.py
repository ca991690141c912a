"""Exported networks: the same logits as the network's, for other sizes and batches than were traced, and what the files say."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

import export_seg
from export_seg import SIZE_STEP, SIZE_STEPS, exact_padding, main, parse_args
from network.seg import HEADS, build_seg
from network.seg_weights import load_seg
from network.weights import save_network
from tests.conftest import PETS
from tool.errors import InputError
from tool.files import file_digest
from tool.transforms import normalise, to_tensor


def _save(path, arch):
    torch.manual_seed(0)
    config = {"arch": arch, "backbone": "resnet10t", "num_classes": 3, "head_channels": 8}
    save_network(path, build_seg(**config).eval(), config | {"method": "seg"}, PETS, {})
    return path


@pytest.mark.parametrize("arch", HEADS)
def test_exported_networks_give_the_same_logits(arch, tmp_path, capsys):
    weights = _save(tmp_path / "seg.pth", arch)
    main(parse_args(["--weights", str(weights)]))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in printed] == [str(tmp_path / "seg.onnx"), str(tmp_path / "seg.pt2")]
    assert all("largest difference" in line for line in printed)

    image = np.random.default_rng(0).integers(0, 256, size=(64, 160, 3), dtype=np.uint8)
    net, _, _ = load_seg(weights)
    with torch.no_grad():
        expected = net(to_tensor(normalise(image, net.mean, net.std))[None].repeat(3, 1, 1, 1))
    unit = to_tensor(image.astype(np.float32) / 255)[None].repeat(3, 1, 1, 1)

    session = onnxruntime.InferenceSession(tmp_path / "seg.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": unit.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == ["background", *PETS]
    assert said["weights"] == file_digest(weights)

    extra = {"meta.json": ""}
    program = torch.export.load(tmp_path / "seg.pt2", extra_files=extra)
    torch.testing.assert_close(program.module()(unit), expected, rtol=1e-4, atol=1e-5)
    assert json.loads(extra["meta.json"])["classes"] == ["background", *PETS]


def test_help_and_readme_name_the_sizes_that_are_traced():
    smallest, largest = (SIZE_STEP * steps for steps in SIZE_STEPS)
    sides = f"multiples of {SIZE_STEP} from {smallest} to {largest}"
    assert sides in export_seg.__doc__
    assert sides in (Path(export_seg.__file__).parent / "README.md").read_text()


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    weights = _save(tmp_path / "seg.pth", "deeplabv1")
    monkeypatch.setattr(export_seg, "trace", lambda net: None)
    monkeypatch.setattr(
        export_seg, "to_torch", lambda program, meta: (b"", lambda image: torch.zeros(len(image), 4, *image.shape[2:]))
    )
    with pytest.raises(InputError, match=r"the exported network differs by .* from the trained one; nothing is written"):
        main(parse_args(["--weights", str(weights), "--export", "torch"]))
    assert [path.name for path in tmp_path.iterdir()] == ["seg.pth"]
    exact = export_seg.Portable(export_seg.load_seg(weights)[0]).eval()
    monkeypatch.setattr(export_seg, "to_onnx", lambda program, meta: (b"", exact))  # the first format is right, the second is not
    with pytest.raises(InputError, match="nothing is written"):
        main(parse_args(["--weights", str(weights)]))
    assert [path.name for path in tmp_path.iterdir()] == ["seg.pth"]


@given(
    steps=st.integers(1, 40), kernel=st.sampled_from([1, 2, 3, 5, 7]), stride=st.sampled_from([1, 2]), dilation=st.integers(1, 4)
)
def test_padding_of_sides_that_the_stride_divides_is_timms(steps, kernel, stride, dilation):
    side = steps * stride
    assert exact_padding(side, kernel, stride, dilation) == timm.layers.padding.get_same_padding(side, kernel, stride, dilation)
