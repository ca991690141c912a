"""Exported networks: the same logits as the network's, for other sizes and batches than were
traced, and what the files say.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

import export_seg
import infer_seg
from export_seg import (
    SIZE_STEP,
    SIZE_STEPS,
    Portable,
    exact_padding,
    largest_difference,
    main,
    parse_args,
    to_torch,
    trace,
)
from network.seg import HEADS, build_seg
from network.seg_weights import load_seg
from network.weights import save_network
from tests.conftest import PETS
from tool.errors import InputError
from tool.file.digests import file_digest
from tool.file.images import read_mask, write_image
from tool.transforms import normalise, to_tensor


def smaller_timm(options: dict) -> AbstractContextManager:
    """timm's models made smaller by options, as long as the context lasts."""
    create = timm.create_model
    return patch.object(
        timm, "create_model", lambda model_name, **kwargs: create(model_name, **kwargs, **options)
    )


def _save(path, arch, tag_head=False):
    torch.manual_seed(0)
    config = {"arch": arch, "backbone": "resnet10t", "num_classes": 3, "head_channels": 8}
    config["tag_head"] = tag_head
    net = build_seg(**config).eval()
    # Untrained logits hardly differ; centred and enlarged ones make masks with several classes.
    classifier = [part for part in net.head.modules() if isinstance(part, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        logits, tags = net.forward_heads(torch.randn(1, 3, 64, 64))
        if tag_head:
            net.tag_head.fc8.weight.div_(tags.std())
        factor = 5 / logits.std(dim=(0, 2, 3))
        classifier.weight *= factor.view(-1, 1, 1, 1)
        classifier.bias.sub_(logits.mean(dim=(0, 2, 3))).mul_(factor)
    save_network(path, net, config | {"method": "seg"}, PETS, {"long_side": 60})
    return path


V3PLUS = "deeplabv3plus"


def _masks(folder, *flags):
    """Run infer_seg.py on a folder of photographs; its masks by name."""
    words = ["--image", folder, "--out_mask", folder.parent / "masks", "--scales", 0.8, 1]
    arguments = [*words, "--device", "cpu", *flags]
    infer_seg.main(infer_seg.parse_args([str(word) for word in arguments]))
    return {path.name: read_mask(path) for path in (folder.parent / "masks").glob("?.png")}


@pytest.mark.parametrize(("arch", "tag_head"), [*((arch, False) for arch in HEADS), (V3PLUS, True)])
def test_exported_networks_give_the_same_logits(arch, tag_head, tmp_path, capsys):
    weights = _save(tmp_path / "seg.pth", arch, tag_head)
    main(parse_args(["--weights", str(weights)]))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in printed] == [
        str(tmp_path / "seg.onnx"),
        str(tmp_path / "seg.pt2"),
    ]
    assert all("largest difference" in line for line in printed)

    image = np.random.default_rng(0).integers(0, 256, size=(65, 160, 3), dtype=np.uint8)
    net, _, _ = load_seg(weights)
    with torch.no_grad():
        expected = net(to_tensor(normalise(image, net.mean, net.std))[None].repeat(3, 1, 1, 1))
    unit = to_tensor(image.astype(np.float32) / 255)[None].repeat(3, 1, 1, 1)

    session = onnxruntime.InferenceSession(
        tmp_path / "seg.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(["logits"], {"image": unit.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)  # logits go up to 20
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == ["background", *PETS]
    assert said["weights"] == file_digest(weights)
    # of any size, and that is what it says
    assert json.loads(said["sizes"]) == {"step": 1}
    assert said["input"] == "image (B, 3, H, W), float32 RGB in 0..1, any H and W"
    small = unit[:1, :, :20, :33]
    with torch.no_grad():
        expected_small = Portable(net)(small)
    (logits,) = session.run(["logits"], {"image": small.numpy()})
    np.testing.assert_allclose(logits, expected_small, rtol=1e-4, atol=1e-4)

    extra = {"meta.json": ""}
    program = torch.export.load(tmp_path / "seg.pt2", extra_files=extra)
    torch.testing.assert_close(program.module()(unit), expected, rtol=1e-4, atol=1e-4)
    meta = json.loads(extra["meta.json"])
    assert meta["classes"] == ["background", *PETS]
    assert (meta["long_side"], meta["std"]) == (60, list(net.std))
    assert meta["sizes"] == {"step": 1, "smallest": 64, "largest": 4096}
    with pytest.raises(Exception, match="64"):  # torch's own; that is what its bounds mean
        program.module()(small)
    _check_runner(tmp_path, weights, capsys)


def _check_runner(folder, weights, capsys):
    """infer_seg.py --onnx makes the masks of --weights, of sides of any kind, and refuses files of
    before, others, and what it does not do.
    """
    rng = np.random.default_rng(0)
    for name, size in (("a", (90, 73)), ("b", (61, 47)), ("c", (64, 96))):
        write_image(folder / "album" / f"{name}.png", rng.integers(0, 256, (*size, 3), np.uint8))
    expected = _masks(folder / "album", "--weights", weights)
    capsys.readouterr()
    found = _masks(folder / "album", "--onnx", folder / "seg.onnx")
    assert "3 of 3 photographs are reduced to a long side of 60" in capsys.readouterr().out
    assert sorted(found) == sorted(expected) == ["a.png", "b.png", "c.png"]
    differing = sum((found[name] != expected[name]).sum() for name in found)
    assert differing <= 1e-3 * sum(mask.size for mask in found.values())
    assert len(np.unique(np.concatenate([mask.ravel() for mask in found.values()]))) > 1
    model = onnx.load(folder / "seg.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != "format"]
    # an earlier export_seg.py gave bounds too; they are read
    (sizes,) = [entry for entry in model.metadata_props if entry.key == "sizes"]
    sizes.value = json.dumps({"step": 1, "smallest": 64, "largest": 4096})
    onnx.save(model, folder / "earlier.onnx")
    again = _masks(folder / "album", "--onnx", folder / "earlier.onnx")
    assert all(np.array_equal(again[name], found[name]) for name in found)
    capsys.readouterr()
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, folder / "old.onnx")
    (folder / "text.onnx").write_text("no network")
    (folder / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    for words, message in (
        (["--onnx", folder / "old.onnx"], "was written by another version of export_seg.py; write"),
        (["--onnx", folder / "text.onnx"], "cannot read network .*text.onnx: "),
        (["--onnx", folder / "lfs.onnx"], r"network .*lfs\.onnx is a pointer of git-lfs; "),
        (["--onnx", folder / "seg.onnx", "--weights", weights], "in the place of --weights"),
        (["--onnx", folder / "seg.onnx", "--precision", "bf16"], "computes in fp32 on the CPU"),
    ):
        with pytest.raises(InputError, match=message):
            _masks(folder / "album", *words)


def _album(folder, sizes):
    """Photographs that have something to see: coloured discs on coloured ground."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 3) ** 2
        image = np.where(disc[..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3))
        write_image(folder / f"{number}.png", (image * 0.9 + rows[..., None] % 20).astype(np.uint8))


def test_int8_is_a_smaller_file_that_says_and_sees_the_same(tmp_path, capsys):
    """Calibrated on evenly spread photographs; infer_seg.py runs it."""
    weights = _save(tmp_path / "seg.pth", V3PLUS, tag_head=True)
    _album(tmp_path / "album", [(60 + number, 90) for number in range(23)])
    words = ["--weights", weights, "--export", "onnx", "--int8", tmp_path / "album"]
    main(parse_args([str(word) for word in words]))
    *_, said = capsys.readouterr().out.splitlines()
    path = tmp_path / "seg_int8.onnx"
    alike = float(said.removeprefix(f"{path}: ").split(" MB, ")[1].split("%")[0])
    assert "pixels of 20 photographs as without int8" in said
    assert 90 < alike < 100

    whole = onnxruntime.InferenceSession(tmp_path / "seg.onnx")
    small = onnxruntime.InferenceSession(path)
    known = whole.get_modelmeta().custom_metadata_map
    kept = small.get_modelmeta().custom_metadata_map
    assert kept == known
    assert [one.name for one in small.get_outputs()] == [one.name for one in whole.get_outputs()]
    assert path.stat().st_size < 0.4 * (tmp_path / "seg.onnx").stat().st_size
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds

    masks = {
        name: _masks(tmp_path / "album", "--onnx", tmp_path / f"{name}.onnx", "--crf", "none")
        for name in ("seg", "seg_int8")
    }
    same = [(masks["seg"][name] == masks["seg_int8"][name]).mean() for name in masks["seg"]]
    assert 0.9 < np.mean(same) < 1


def test_int8_refuses_what_gives_no_scales_and_leaves_nothing(tmp_path):
    weights = _save(tmp_path / "seg.pth", "deeplabv1")
    (tmp_path / "text.jpg").write_text("no photograph")
    for words, message in (
        (["--int8", tmp_path / "text.jpg"], "text.jpg"),
        (["--int8", tmp_path / "none.jpg"], "none.jpg"),
        (["--export", "torch", "--int8", tmp_path / "text.jpg"], "have onnx among --export"),
    ):
        arguments = parse_args([str(word) for word in ["--weights", weights, *words]])
        with pytest.raises(InputError, match=message):
            main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seg.pth", "text.jpg"]


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "pvt_v2_b0"])
def test_transformers_are_exported_for_any_size(name):
    """Of few blocks: a plain transformer, whose images and positions are resized in the graph, and
    a pyramid.
    """
    small = {"depths": (1, 1, 1, 1)} if "pvt" in name else {"depth": 3, "embed_dim": 96}
    with smaller_timm(small):
        net = Portable(build_seg("deeplabv1", name, 3, head_channels=8)).eval()
    _, run = to_torch(trace(net), {})
    difference, logit = largest_difference(net, run)
    assert difference <= 1e-4 * logit


def test_one_size_is_exported_where_no_graph_holds_all(tmp_path, capsys):
    """DINOv3, whose positions timm computes in Python from the size of the grid."""
    name = "vit_small_patch16_dinov3"
    config = {"arch": "deeplabv1", "backbone": name, "num_classes": 3, "head_channels": 8}
    words = ["--weights", str(tmp_path / "seg.pth"), "--export", "torch"]
    with smaller_timm({"depth": 3, "embed_dim": 96}):
        net = build_seg(**config).eval()
        save_network(tmp_path / "seg.pth", net, config | {"method": "seg"}, PETS, {})
        with pytest.raises(InputError) as error:
            main(parse_args(words))
        message = str(error.value)
        assert message.startswith(f"--backbone {name} cannot be exported as torch for any size of")
        assert message.endswith("; choose one by --size H W")
        assert not (tmp_path / "seg.pt2").exists()
        main(parse_args([*words, "--size", "70", "90"]))
    assert "largest difference" in capsys.readouterr().out
    program = torch.export.load(tmp_path / "seg.pt2").module()
    unit = torch.rand(4, 3, 70, 90)
    with torch.no_grad():
        torch.testing.assert_close(program(unit), Portable(net)(unit), rtol=1e-4, atol=1e-5)


def test_help_and_page_name_the_sizes_that_are_traced():
    smallest, largest = (SIZE_STEP * steps for steps in SIZE_STEPS)
    sides = f"multiples of {SIZE_STEP} from {smallest} to {largest}"
    page = (Path(export_seg.__file__).parent / "docs" / "stages.md").read_text()
    for text in (export_seg.__doc__, page):
        assert sides in " ".join(text.split())


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    weights = _save(tmp_path / "seg.pth", "deeplabv1")
    monkeypatch.setattr(export_seg, "trace", lambda *_: None)
    monkeypatch.setattr(
        export_seg,
        "to_torch",
        lambda program, meta: (b"", lambda image: torch.zeros(len(image), 4, *image.shape[2:])),
    )
    with pytest.raises(
        InputError,
        match=r"the exported network differs by .* from the trained one; nothing is written",
    ):
        main(parse_args(["--weights", str(weights), "--export", "torch"]))
    assert [path.name for path in tmp_path.iterdir()] == ["seg.pth"]
    exact = export_seg.Portable(export_seg.load_seg(weights)[0]).eval()
    # the first format is right, the second is not
    monkeypatch.setattr(export_seg, "to_onnx", lambda program, meta: (b"", exact))
    with pytest.raises(InputError, match="nothing is written"):
        main(parse_args(["--weights", str(weights)]))
    assert [path.name for path in tmp_path.iterdir()] == ["seg.pth"]


@given(
    side=st.integers(1, 400),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 4]),
    dilation=st.integers(1, 4),
)
def test_padding_is_timms(side, kernel, stride, dilation):
    assert exact_padding(side, kernel, stride, dilation) == timm.layers.padding.get_same_padding(
        side, kernel, stride, dilation
    )


def test_the_same_weights_give_the_same_bytes():
    torch.manual_seed(0)
    net = Portable(build_seg("deeplabv3", "test_resnet", 3, head_channels=8)).eval()
    one, two = (to_torch(trace(net, (64, 64)), {})[0] for _ in range(2))
    assert one == two
