"""Training through the command line: every method, resuming, what the messages say, and the
ResNet38 path from end to end.
"""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

import evaluation_cam
import infer_cam
import train_cpn
from flags.cpn_training import auto_iterations, flags_for_nothing, warmup_iterations
from network.build import build_cpn
from network.cam_steps import compile_training, train_cpn_step, train_seam_step, weigh_losses
from network.weights import WEIGHTS_HELP, load_network
from tests.conftest import PETS
from tests.sessions import (
    assert_finished_weights_stay,
    assert_same_weights,
    log_lines,
    run_stopped,
)
from tests.synthetic import write_voc_tree
from tool.choices import RELEASED_MOMENTUM, RESNET38_WEIGHTS
from tool.errors import InputError
from tool.file.cam_file import load_cam
from tool.file.checkpoint import load_torch
from tool.file.images import read_image, read_mask, write_image, write_mask
from tool.losses import cpn_losses, seam_losses, seam_scale
from tool.mask_values import BACKGROUND
from tool.patches import cp_pair
from tool.run.notes import forget_notes
from tool.run.trainer import seed_everything
from train_cpn import main, parse_args
from voc12.constants import CLASSES, DATA_HELP, IMAGE_DIR, LABEL_FILE
from voc12.labels import load_labels, save_labels
from voc12.lists import image_path, load_ids, mask_path
from voc12.training_list import load_training_list

REPOSITORY = Path(train_cpn.__file__).resolve().parent
SMALL = ("--backbone", "resnet10t", "--weights", "none", "--val_list", "none")


def _args(root: Path, results: Path, *flags, name: str = "run"):
    """Flags of a training that takes a second: 64-pixel crops, batches of two images."""
    common = (
        "--voc12_root",
        root,
        "--results",
        results,
        "--session_name",
        name,
        "--train_list",
        "train",
    )
    small = (
        "--crop_size",
        64,
        "--resize_long",
        60,
        90,
        "--superpixels",
        40,
        "--batch_size",
        2,
        "--num_workers",
        0,
    )
    return parse_args(
        [
            str(word)
            for word in (
                *common,
                *small,
                "--max_epoches",
                1,
                "--device",
                "cpu",
                "--log_every",
                1,
                *flags,
            )
        ]
    )


def _assert_same_training(one: Path, two: Path) -> None:
    """The bits of network and optimiser in two folders agree."""
    a, b = (load_torch(folder / "checkpoint.pth") for folder in (one, two))
    assert a["step"] == b["step"]
    for name, value in a["net"].items():
        assert torch.equal(value, b["net"][name]), name
    for key, state in a["optimizer"]["state"].items():
        assert torch.equal(
            state["momentum_buffer"], b["optimizer"]["state"][key]["momentum_buffer"]
        ), key
    assert torch.equal(a["rng"], b["rng"])


# ============ flags ============
def _small_preset(root: Path, results: Path, *flags, name: str = "run"):
    """Flags of a training with --preset small that takes a second."""
    where = ("--voc12_root", root, "--results", results, "--train_list", "train")
    size = ("--crop_size", 64, "--resize_long", 60, 90, "--grid_sizes", 16, 32, "--batch_size", 2)
    rest = ("--weights", "none", "--val_list", "none", "--num_workers", 0, "--device", "cpu")
    words = ("--preset", "small", *where, *size, *rest, "--session_name", name, *flags)
    return parse_args([str(word) for word in words])


def test_a_preset_changes_defaults_and_flags_override_it():
    assert parse_args([]).preset == "paper"
    assert (parse_args([]).momentum, parse_args([]).refinement_factor) == (5e-4, None)
    args = parse_args(["--preset", "best", "--lr", "0.02"])
    assert (args.patch, args.momentum, args.refinement_factor, args.lr) == ("grid", 0.9, 0.0, 0.02)


def test_the_small_preset_counts_in_iterations_unless_epochs_are_asked_for():
    args = parse_args(["--preset", "small"])
    assert (args.optimizer, args.max_iterations, args.backbone) == (
        "adamw",
        "auto",
        "efficientnet_lite0",
    )
    assert (args.lr, args.new_layer_factor) == (1e-4, 100)
    assert auto_iterations(images=40, classes=3, batch_size=8) == 300
    assert auto_iterations(images=1060, classes=20, batch_size=8) == 600
    assert auto_iterations(images=10_582, classes=20, batch_size=8) == 3968
    args = parse_args(["--preset", "small", "--max_epoches", "2"])
    assert (args.max_epoches, args.max_iterations) == (2, None)
    assert (parse_args([]).max_epoches, parse_args([]).max_iterations) == (8, None)
    with pytest.raises(SystemExit):
        parse_args(["--max_epoches", "2", "--max_iterations", "5"])


@pytest.mark.parametrize(
    ("method", "sampling"), [("cam", "class"), ("seam", "uniform"), ("cpn", "class")]
)
def test_the_small_preset_trains_goes_on_and_says_how_it_went(
    pets_root, tmp_path, capsys, method, sampling
):
    args = partial(_small_preset, pets_root, tmp_path, "--max_iterations", 5)
    args = partial(args, "--method", method, "--sampling", sampling)
    main(args(name="whole"))
    whole = load_torch(tmp_path / "whole" / "whole.pth")
    assert whole["training"]["iterations"] == 5
    assert "verdict: " in capsys.readouterr().out
    assert whole["training"]["verdict"] == {
        name: value
        for name, value in log_lines(tmp_path / "whole")[-2].items()
        if name not in ("kind", "time")
    }
    parts = args(name="parts")
    run_stopped(main, parts, 3)
    main(parts)
    assert_same_weights(tmp_path / "whole" / "whole.pth", tmp_path / "parts" / "parts.pth")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("", []),
        ("--preset small", []),
        ("--preset small --method cam", []),
        ("--momentum 0.9 --superpixels 50 --draw exact", []),
        ("--optimizer adamw", []),
        ("--preset best --optimizer adamw", []),
        ("--preset small --momentum 0.9", ["--momentum changes nothing with --optimizer adamw"]),
        (
            "--preset small --superpixels 50 --draw exact --slic_input raw",
            [
                f"--{name} changes nothing with --patch grid"
                for name in ("superpixels", "slic_input", "draw")
            ],
        ),
        ("--grid_sizes 20", ["--grid_sizes changes nothing with --patch superpixel"]),
        ("--method cam --grid_sizes 20", []),
        ("--seam_scale 0.5", []),
        ("--loss_weights loss_cpcr=0 loss_tcp=0", []),
        ("--preset small --loss_weights loss_tcp=0", []),
        *(
            (
                f"--preset small --method {method} --loss_weights {name}=0.5",
                [
                    f"--loss_weights {name}=0.5 changes nothing with --refinement_factor 0 but the "
                    "gradient's norm, by which --clip_norm clips: the loss reaches PCM's and "
                    "PRCM's layers alone, which stay as they start"
                ],
            )
            for method, name in (("cpn", "loss_cpcr"), ("seam", "loss_ecr"))
        ),
    ],
)
def test_flags_that_change_nothing_are_named(words, lines):
    assert flags_for_nothing(parse_args(words.split())) == lines


@pytest.mark.parametrize(("method", "name"), [("cpn", "loss_cpcr"), ("seam", "loss_ecr")])
def test_a_loss_of_the_refined_maps_reaches_the_refining_layers_alone(small_net, method, name):
    net = copy.deepcopy(small_net).train()
    batch = {
        "image": torch.randn(2, 3, 64, 64),
        "label": torch.eye(3)[:2],
        "mask": torch.rand(2, 64, 64) < 0.5,
        "visible": torch.full((2,), 0.5),
    }
    train_cpn.STEPS[method](net, batch)[name].backward()
    refining = {id(p) for module in net.refinement_modules() for p in module.parameters()}
    reached = [p for p in net.parameters() if p.grad is not None and p.grad.any()]
    assert reached
    assert all(id(parameter) in refining for parameter in reached)


@pytest.mark.parametrize(
    ("words", "max_step", "warmup"),
    [
        ("--preset small", 600, 30),
        ("--preset small", 150, 30),
        ("--preset small", 100, 20),
        ("--preset small", 20, 4),
        ("--preset small", 3, 0),
        ("--preset small --warmup 12", 20, 12),
        ("--warmup 30", 20, 30),
        ("", 20, 0),
    ],
)
def test_a_presets_warm_up_fits_a_short_training(words, max_step, warmup):
    assert warmup_iterations(parse_args(words.split()), max_step) == warmup


@pytest.mark.parametrize(
    ("flags", "note", "highest"),
    [
        ((), "the warm-up of --preset small is 4 of the 20 iterations", 0.818),
        (
            ("--warmup", 25),
            "--warmup 25 is as long as the training, 20 iterations, which has less than --lr "
            "throughout",
            0.227,
        ),
    ],
)
def test_a_warm_up_that_does_not_fit_is_said(pets_root, tmp_path, capsys, flags, note, highest):
    forget_notes()
    args = _small_preset(pets_root, tmp_path, *flags)
    layer = torch.nn.Linear(2, 2)
    layer.pretrained_modules, layer.new_modules = (lambda: [layer]), (lambda: [])
    args.refinement_factor = None
    optimizer, schedule = train_cpn.make_optimizer(args, layer, 20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"] / args.lr)
        optimizer.step()
        schedule.step()
    assert note in capsys.readouterr().out
    assert max(rates) == pytest.approx(highest, abs=0.001)


def test_seams_second_view_has_the_size_that_is_asked_for(pets_root, tmp_path, monkeypatch):
    seen = []

    def step(net, batch, scale):
        seen.append(scale)
        return train_seam_step(net, batch, scale)

    monkeypatch.setitem(train_cpn.STEPS, "seam", step)
    for name, scale in (("released", ()), ("larger", ("--seam_scale", 0.5))):
        main(_args(pets_root, tmp_path, *SMALL, "--method", "seam", *scale, name=name))
    assert set(seen) == {0.3, 0.5}
    assert seen.count(0.3) == seen.count(0.5)


def test_a_second_view_without_a_quarter_of_pixels_is_refused(pets_root, tmp_path):
    flags = (*SMALL, "--method", "seam", "--crop_size", 16, "--seam_scale", 0.1)
    assert _error(pets_root, tmp_path, *flags) == (
        "--seam_scale 0.1 of --crop_size 16 leaves no second view of 2 pixels a side; raise either"
    )
    assert list(tmp_path.iterdir()) == []


def test_released_command_line_is_accepted():
    words = (
        "--voc12_root V --train_list voc12/train_aug.txt --val_list voc12/val.txt --weights "
        "W.params --network network.resnet38_contrast --session_name resnet38_cpn --batch_size 8 "
        "--max_epoches 8 --lr 0.01 --wt_dec 5e-4 --crop_size 448 --num_workers 8"
    )
    args = parse_args(words.split())
    assert args.backbone == "resnet38"
    assert (args.train_list, args.batch_size, args.lr, args.wt_dec) == (
        "voc12/train_aug.txt",
        8,
        0.01,
        5e-4,
    )


def test_defaults_are_the_released_ones():
    args = parse_args([])
    assert (args.batch_size, args.max_epoches, args.lr, args.wt_dec, args.crop_size) == (
        4,
        8,
        0.01,
        5e-4,
        448,
    )
    assert (args.train_list, args.momentum, tuple(args.resize_long)) == (
        "train_aug",
        RELEASED_MOMENTUM,
        (448, 768),
    )
    assert (args.method, args.patch, args.superpixels, args.hide_ratio, args.draw) == (
        "cpn",
        "superpixel",
        300,
        0.5,
        "released",
    )
    assert (args.backbone, args.prcm, args.slic_input) == ("resnet38", "released", "rescaled")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--network", "network.vgg16"],
            "network.vgg16: only network.resnet38_* was released; other networks go by --backbone",
        ),
        (["--loss_weights", "loss_tcp"], "'loss_tcp' is not NAME=NUMBER"),
        (["--method", "irn"], "invalid choice: 'irn'"),
    ],
)
def test_impossible_flags_are_named(capsys, words, message):
    with pytest.raises(SystemExit) as exit:
        parse_args(words)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_checkpointing_is_refused_where_there_is_none(pets_root, tmp_path):
    with pytest.raises(
        InputError,
        match=r"^--checkpointing is for resnet38, not for resnet10t; use --accum to save memory$",
    ):
        main(_args(pets_root, tmp_path, *SMALL, "--checkpointing"))


def test_compiled_is_what_trains_and_plain_what_validates(small_net, monkeypatch):
    calls = []
    monkeypatch.setattr(
        torch, "compile", lambda function: lambda x: calls.append("compiled") or function(x)
    )
    net = copy.deepcopy(small_net)
    names = list(net.state_dict())
    compile_training(net)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = small_net(x)[0]
        torch.testing.assert_close(net(x)[0], expected)
        assert calls == []
        net.train().forward_features(x)
        assert calls == ["compiled"]
    assert list(net.state_dict()) == names


# ============ steps ============
@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "id": ["a", "b"],
        "image": torch.randn(2, 3, 64, 72, generator=generator),
        "label": torch.tensor([[1.0, 0, 1], [0, 1, 0]]),
        "mask": torch.rand(2, 64, 72, generator=generator) < 0.6,
        "visible": torch.tensor([0.6, 0.55]),
    }


def _assert_same_losses(ours: dict, expected: dict) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_cpn_step_is_three_passes_and_the_losses_at_full_size(small_net, batch):
    patch, complement = cp_pair(batch["image"], batch["mask"])
    cams, refined = zip(
        *(small_net(image) for image in (batch["image"], patch, complement)), strict=True
    )
    _assert_same_losses(
        train_cpn_step(small_net, batch),
        cpn_losses(cams, refined, batch["label"], batch["visible"]),
    )


@pytest.mark.parametrize("scale", [0.3, 0.6])
@torch.no_grad()
def test_seam_step_is_two_passes_and_the_losses_at_full_size(small_net, batch, scale):
    views = batch["image"], seam_scale(batch["image"], scale)
    cams, refined = zip(*(small_net(image) for image in views), strict=True)
    _assert_same_losses(
        train_seam_step(small_net, batch, scale), seam_losses(cams, refined, batch["label"])
    )


def test_weigh_losses_changes_the_total_alone():
    losses = {
        "loss_cls": torch.tensor(1.0),
        "loss_tcp": torch.tensor(2.0),
        "loss": torch.tensor(3.0),
    }
    assert weigh_losses(losses, {}) is losses
    weighed = weigh_losses(losses, {"loss_tcp": 0.25})
    assert {name: value.item() for name, value in weighed.items()} == {
        "loss_cls": 1,
        "loss_tcp": 2,
        "loss": 1.5,
    }


@pytest.mark.parametrize("name", ["loss_er", "loss"])
def test_weight_of_a_loss_that_is_not_there_is_named(name):
    losses = {
        "loss_cls": torch.tensor(1.0),
        "loss_tcp": torch.tensor(2.0),
        "loss": torch.tensor(3.0),
    }
    with pytest.raises(InputError) as error:
        weigh_losses(losses, {name: 1.0})
    assert str(error.value) == f"--loss_weights names {name}, this method has loss_cls, loss_tcp"


# ============ from end to end ============
def _infer_and_evaluate(root: Path, weights: Path, folder: Path, *flags: str) -> tuple[list, dict]:
    """(CAM files of the validation list, the evaluation's JSON)."""
    words = [
        "--voc12_root",
        str(root),
        "--infer_list",
        "val",
        "--weights",
        str(weights),
        "--out_cam",
        str(folder / "cam"),
    ]
    infer_cam.main(infer_cam.parse_args([*words, "--num_workers", "0", "--device", "cpu", *flags]))
    table = folder / "table.json"
    words = [
        "--voc12_root",
        str(root),
        "--list",
        "val",
        "--predict_dir",
        str(folder / "cam"),
        "--num_workers",
        "1",
    ]
    evaluation_cam.main(evaluation_cam.parse_args([*words, "--json", str(table)]))
    return [load_cam(path) for path in sorted((folder / "cam").glob("*.npz"))], json.loads(
        table.read_text()
    )


RUNS = {
    "cpn superpixel": (
        "--method",
        "cpn",
        "--patch",
        "superpixel",
        "--slic_input",
        "raw",
        "--draw",
        "exact",
    ),
    "cpn slic a crop": ("--method", "cpn", "--patch", "superpixel", "--superpixel_mode", "exact"),
    "cpn grid": ("--method", "cpn", "--patch", "grid", "--grid_sizes", "16", "32"),
    "cpn pixel": ("--method", "cpn", "--patch", "pixel", "--hide_ratio", "0.3"),
    "seam": ("--method", "seam"),
    "cam": ("--method", "cam"),
}
LOSSES = {
    "cpn": {"loss_cls", "loss_tcp", "loss_cpcr"},
    "seam": {"loss_cls", "loss_er", "loss_ecr"},
    "cam": {"loss_cls"},
}


@pytest.mark.parametrize("flags", RUNS.values(), ids=RUNS)
def test_efficientnet_trains_infers_and_evaluates(pets_root, tmp_path, flags):
    method = flags[1]
    args = _args(
        pets_root, tmp_path, "--backbone", "efficientnet_lite0", "--weights", "none", *flags
    )
    main(args)
    folder = tmp_path / "run"
    lines = log_lines(folder)

    assert [line["kind"] for line in lines] == [
        "start",
        "train",
        "train",
        "epoch",
        "verdict",
        "end",
    ]
    start = lines[0]
    assert start["settings"] == {
        name: list(v) if isinstance(v, tuple) else v for name, v in vars(args).items()
    }
    assert start["settings"]["seed"] == 0
    assert start["commit"]
    assert {"torch", "timm", "numpy"} <= set(start["versions"])
    assert {name for name in lines[1] if name.startswith("loss_")} == LOSSES[method]
    assert lines[1]["loss"] == pytest.approx(
        sum(lines[1][name] for name in LOSSES[method]), rel=1e-5
    )

    kinds = {"cam"} if method == "cam" else {"cam", "cam_refined"}
    assert {name for name in lines[3] if name.startswith("val_miou_")} == {
        f"val_miou_{kind}" for kind in kinds
    }
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert len(events.Scalars("train/loss")) == 2
    assert events.Scalars("val/loss_cls")[0].value == pytest.approx(lines[3]["val_loss_cls"])
    assert events.Tags()["images"] == ["cam/0", "cam/1"]

    net, config, classes = load_network(folder / "run.pth")
    assert classes == PETS
    assert (config["backbone"], config["num_classes"], config["method"]) == (
        "efficientnet_lite0",
        3,
        method,
    )
    assert config["refinement"] == {"seam": "pcm"}.get(method, "pcm+prcm")
    training = load_torch(folder / "run.pth")["training"]
    assert (training["iterations"], training["settings"]["lr"]) == (2, 0.01)
    trained = load_torch(folder / "checkpoint.pth")["net"]
    assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())

    cams, table = _infer_and_evaluate(
        pets_root, folder / "run.pth", tmp_path, "--scales", "0.5", "1.0"
    )
    assert len(cams) == 2
    assert {cam.meta["stage"] for cam in cams} == {"cam" if method == "cam" else "cam_refined"}
    assert (table["images"], table["stage"]) == (2, cams[0].meta["stage"])
    assert list(table["iou"]) == [BACKGROUND, *PETS]
    assert 0 <= table["best_miou"] <= 100


@pytest.fixture(scope="module")
def resnet38(voc_root, tmp_path_factory):
    """The released network on four images, two steps from random weights; (results folder, session
    folder).
    """
    results = tmp_path_factory.mktemp("resnet38")
    args = _args(
        voc_root,
        results,
        "--weights",
        "none",
        "--network",
        "network.resnet38_contrast",
        "--num_workers",
        1,
    )
    main(args)
    yield results, results / "run"
    shutil.rmtree(results)  # over a gigabyte


def test_resnet38_trains_what_is_not_frozen_and_nothing_else(resnet38):
    _, folder = resnet38
    net, config, classes = load_network(folder / "run.pth")
    assert (config["backbone"], classes) == ("resnet38", CLASSES)
    seed_everything(0)
    start = build_cpn()
    trained = dict(net.named_parameters())
    for name, value in start.named_parameters():
        assert torch.equal(value, trained[name]) != value.requires_grad, name
    buffers = dict(net.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in start.named_buffers())


def test_resnet38_infers_and_evaluates(resnet38, voc_root):
    results, folder = resnet38
    cams, table = _infer_and_evaluate(
        voc_root, folder / "run.pth", results, "--scales", "0.5", "1.0"
    )
    assert [cam.id for cam in cams] == ["2007_000004", "2007_000005"]
    for cam in cams:
        assert cam.cam.shape == (len(cam.keys), *cam.size)
        assert cam.cam.max() <= 1 + 1e-5
    assert list(table["iou"]) == [BACKGROUND, *CLASSES]
    assert table["best_miou"] == pytest.approx(np.mean(list(table["iou"].values())))


# ============ resuming ============
@pytest.mark.parametrize("method", ["cpn", "seam", "cam"])
def test_stopped_and_resumed_training_ends_like_a_whole_one_bit_for_bit(
    pets_root, tmp_path, method
):
    flags = (*SMALL[:-2], "--val_list", "val", "--method", method, "--max_epoches", 2)
    main(_args(pets_root, tmp_path, *flags, name="whole"))
    for stop in (1, 2, 3):
        run_stopped(main, _args(pets_root, tmp_path, *flags, name="parts"), stop)
    main(_args(pets_root, tmp_path, *flags, name="parts"))
    _assert_same_training(tmp_path / "whole", tmp_path / "parts")
    assert_same_weights(*(tmp_path / name / f"{name}.pth" for name in ("whole", "parts")))

    def epochs(name: str) -> list[dict]:
        return [line | {"time": None} for line in log_lines(tmp_path / name, "epoch")]

    assert epochs("whole") == epochs("parts")


def test_a_session_does_not_go_on_with_other_photographs(pets_root, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    run_stopped(main, _args(root, tmp_path, *SMALL), 1)
    paths = [image_path(root, name) for name in load_ids(root, "train")]
    kept = paths[0].read_bytes()
    write_image(paths[0], read_image(paths[0])[:, ::-1])
    text = rf"1 of {len(paths)} files in --voc12_root .* first {re.escape(paths[0].name)}; use an"
    with pytest.raises(InputError, match=text):
        main(_args(root, tmp_path, *SMALL))
    paths[0].write_bytes(kept)
    run_stopped(main, _args(root, tmp_path, *SMALL), 2)


def test_checkpoint_does_not_depend_on_the_number_of_workers(pets_root, tmp_path):
    for workers in (0, 1, 2):
        main(_args(pets_root, tmp_path, *SMALL, "--num_workers", workers, name=f"workers{workers}"))
    _assert_same_training(tmp_path / "workers0", tmp_path / "workers1")
    _assert_same_training(tmp_path / "workers0", tmp_path / "workers2")


def test_seed_changes_the_training(pets_root, tmp_path):
    for seed in (0, 1):
        main(_args(pets_root, tmp_path, *SMALL, "--seed", seed, name=f"seed{seed}"))
    a, b = (
        load_torch(tmp_path / f"seed{seed}" / "checkpoint.pth")["net"]["fc8.weight"]
        for seed in (0, 1)
    )
    assert not torch.equal(a, b)


# The process signals its whole group, workers and all, in the third iteration, as a scheduler does.
SELF_TERMINATING = """
import os, signal, sys, train_cpn
calls, step = [], train_cpn.STEPS["cam"]
def stopping(net, batch):
    calls.append(batch["id"])
    if len(calls) == 3:
        os.killpg(0, signal.SIGTERM)
    return step(net, batch)
train_cpn.STEPS["cam"] = stopping
train_cpn.run_script(train_cpn.main, lambda: train_cpn.parse_args(sys.argv[1:]))
"""


def _words(args) -> list[str]:
    """The command line of args, for another process."""
    words = []
    for name, value in vars(args).items():
        if value is None or value == () or value == []:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}", *map(str, values)]
    return words


def _process(program: list[str], args) -> subprocess.CompletedProcess:
    """The program, run by Python in a process group of its own with the flags of args."""
    return subprocess.run(
        [sys.executable, *program, *_words(args)],
        cwd=REPOSITORY,
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=600,  # a hang, however busy the machine is
    )


def test_terminated_process_saves_and_its_command_continues_bit_for_bit(pets_root, tmp_path):
    flags = (*SMALL, "--method", "cam", "--max_epoches", 2, "--num_workers", 1)
    args = _args(pets_root, tmp_path, *flags, name="parts")
    done = _process(["-c", SELF_TERMINATING], args)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert load_torch(tmp_path / "parts" / "checkpoint.pth")["step"] == 3
    assert "stopped at iteration 3 of 4; the same command continues" in done.stdout + done.stderr
    main(args)
    main(_args(pets_root, tmp_path, *flags, name="whole"))
    _assert_same_training(tmp_path / "whole", tmp_path / "parts")
    assert [
        line["kind"]
        for line in log_lines(tmp_path / "parts")
        if line["kind"] in ("start", "stop", "resume", "end")
    ] == [
        "start",
        "stop",
        "resume",
        "end",
    ]


def test_other_settings_do_not_continue_a_session(pets_root, tmp_path):
    main(_args(pets_root, tmp_path, *SMALL, "--method", "cam"))
    with pytest.raises(InputError) as error:
        main(_args(pets_root, tmp_path, *SMALL, "--method", "cam", "--lr", "0.02"))
    assert str(error.value) == (
        f"session {tmp_path / 'run'} was started with --lr 0.01, now it is 0.02; "
        "use the same flags, another --session_name, or --resume never to start over"
    )
    main(_args(pets_root, tmp_path, *SMALL, "--method", "cam", "--lr", "0.02", "--resume", "never"))
    assert log_lines(tmp_path / "run")[-1]["kind"] == "end"


def test_finished_weights_stay_as_they_are(pets_root, tmp_path, capsys):
    args = _args(pets_root, tmp_path, *SMALL, "--method", "cam")
    main(args)
    assert_finished_weights_stay(main, args, tmp_path / "run" / "run.pth")
    said = capsys.readouterr().out
    assert f"weights: {tmp_path / 'run' / 'run.pth'}, finished before\n" in said
    assert said.count("verdict: ") == 5  # whose weights were written


def test_a_session_does_not_go_on_from_other_weights(pets_root, tmp_path):
    start = tmp_path / "start" / "start.pth"
    flags = (*SMALL, "--method", "cam")
    main(_args(pets_root, tmp_path, *flags, name="start"))
    args = _args(pets_root, tmp_path, *flags, "--weights", start)
    run_stopped(main, args, 1)
    main(_args(pets_root, tmp_path, *flags, "--seed", 1, "--resume", "never", name="start"))
    with pytest.raises(InputError) as error:
        main(args)
    assert str(error.value) == (
        f"--weights {start} is another file than session {tmp_path / 'run'} was started with; use "
        "another --session_name, or --resume never to start over"
    )


def test_a_session_does_not_write_over_what_it_starts_from(pets_root, tmp_path):
    flags, start = (*SMALL, "--method", "cam"), tmp_path / "run" / "run.pth"
    main(_args(pets_root, tmp_path, *flags))
    with pytest.raises(InputError) as error:
        main(_args(pets_root, tmp_path, *flags, "--weights", start, "--resume", "never"))
    assert str(error.value) == (
        f"--weights {start} are what session {tmp_path / 'run'} writes; give this training another "
        "--session_name"
    )
    assert start.is_file()


def _of_an_older_version(session, **changes):
    """Settings of a checkpoint as another version wrote them; None for none."""
    path = session / "checkpoint.pth"
    state = load_torch(path)
    state["settings"] = {
        name: value for name, value in (state["settings"] | changes).items() if value is not None
    }
    torch.save(state, path)


def test_a_session_older_than_a_flag_had_none_of_a_presets_value(pets_root, tmp_path):
    flags = ("--method", "seam", "--max_iterations", 4)
    stopped = _small_preset(pets_root, tmp_path, *flags, "--seam_scale", 0.3)
    run_stopped(main, stopped, 2)
    _of_an_older_version(tmp_path / "run", seam_scale=None)
    with pytest.raises(InputError, match=r"started with --seam_scale 0\.3, now it is 0\.75"):
        main(_small_preset(pets_root, tmp_path, *flags))
    main(stopped)
    assert log_lines(tmp_path / "run")[-1]["kind"] == "end"


def test_another_rule_for_the_length_does_not_continue_a_session(pets_root, tmp_path, monkeypatch):
    args = partial(_small_preset, pets_root, tmp_path, "--method", "cam")
    monkeypatch.setattr(train_cpn, "auto_iterations", lambda *_: 4)
    run_stopped(main, args(), 2)
    monkeypatch.setattr(train_cpn, "auto_iterations", lambda *_: 6)
    with pytest.raises(InputError, match="started with --max_iterations 4, now it is 6"):
        main(args())
    monkeypatch.setattr(train_cpn, "auto_iterations", lambda *_: 4)
    main(args())
    training = load_torch(tmp_path / "run" / "run.pth")["training"]
    assert training["settings"]["max_iterations"] == training["iterations"] == 4


def test_other_labels_do_not_continue_a_session(pets_root, tmp_path, capsys):
    root = shutil.copytree(pets_root, tmp_path / "data")
    flags = (*SMALL, "--method", "cam", "--preset", "best")
    main(_args(root, tmp_path, *flags))
    ids = load_ids(root, "train")
    labels = load_labels(root, ids, PETS)
    assert (
        f"training images: {len(ids)} of train, {len(PETS)} classes, labels: npy"
        in capsys.readouterr().out
    )
    again = [
        *flags[: flags.index("--preset")],
        "--lr",
        "0.005",
        "--momentum",
        "0.9",
        "--refinement_factor",
        "0",
    ]
    # what the preset says, in other words
    main(_args(root, tmp_path, *again, "--patch", "grid", "--grid_sizes", "56", "112"))
    save_labels(root / LABEL_FILE, ids, np.roll(labels, 1, axis=0))
    with pytest.raises(
        InputError,
        match=r"run was started with other images, labels or classes; use another --session_name",
    ):
        main(_args(root, tmp_path, *flags))


# ============ messages ============
def _error(root: Path, results: Path, *flags) -> str:
    with pytest.raises(InputError) as error:
        main(_args(root, results, *flags))
    return str(error.value)


def test_missing_data_is_named_with_what_to_do(tmp_path):
    assert (
        _error(tmp_path / "no", tmp_path)
        == f"--voc12_root not found: {tmp_path / 'no'}; {DATA_HELP}"
    )


def test_missing_list_is_named(pets_root, tmp_path):
    path = pets_root / "ImageSets" / "Segmentation" / "test.txt"
    assert _error(pets_root, tmp_path, "--train_list", "test") == (
        f"image list not found: neither test nor {path} is a file; {DATA_HELP}"
    )


def test_missing_weights_are_named_with_what_to_do(pets_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        _error(pets_root, tmp_path)
        == f"ResNet38 weights not found: {RESNET38_WEIGHTS}; {WEIGHTS_HELP}"
    )
    assert (
        _error(pets_root, tmp_path, "--weights", "a.pth")
        == f"ResNet38 weights not found: a.pth; {WEIGHTS_HELP}"
    )


def test_resnet38_has_no_imagenet_weights_of_its_own(pets_root, tmp_path):
    assert (
        _error(pets_root, tmp_path, "--weights", "imagenet")
        == f"--weights imagenet: {WEIGHTS_HELP}"
    )


def test_cells_as_large_as_the_crop_are_refused(pets_root, tmp_path):
    assert _error(
        pets_root, tmp_path, *SMALL, "--patch", "grid", "--grid_sizes", "224", "448"
    ).startswith(
        "--grid_sizes 224 448: no cell is smaller than --crop_size 64, so a patch hides all or "
        "nothing"
    )


def test_every_missing_photograph_is_counted(pets_root, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    for name in load_ids(root, "train")[:2]:
        (root / "JPEGImages" / f"{name}.jpg").unlink()
    assert _error(root, tmp_path, *SMALL, "--method", "cam").startswith(
        "2 of 5 images of train lack a file; the first: no image"
    )


def test_a_validation_mask_that_does_not_fit_is_named_and_costs_no_epoch(pets_root, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    path = root / "SegmentationClassAug" / f"{load_ids(root, 'val')[0]}.png"
    write_mask(path, np.zeros((9, 9), np.uint8))
    flags = (*SMALL, "--method", "cam", "--val_list", "val")
    assert _error(root, tmp_path, *flags).startswith(
        f"{path}: the prediction's size (80, 60) differs from the ground truth's (9, 9)"
    )
    assert load_torch(tmp_path / "run" / "checkpoint.pth")["step"] == 2


def test_list_smaller_than_a_batch_is_named(pets_root, tmp_path):
    assert _error(pets_root, tmp_path, *SMALL, "--batch_size", 6) == (
        "train has 5 images, fewer than --batch_size 6; lower it"
    )


@pytest.mark.parametrize("method", ["cpn", "seam", "cam"])
def test_images_without_a_class_train_and_have_cam_files_without_maps(tmp_path, method, capsys):
    root = write_voc_tree(tmp_path / "pets", {"train": 4}, class_count=3, classes=PETS)
    names = load_ids(root, "train")
    save_labels(root / LABEL_FILE, names, np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]))
    main(_args(root, tmp_path, *SMALL, "--method", method))
    assert "2 of 4 images show no class: background" in capsys.readouterr().out
    losses = log_lines(tmp_path / "run", "train")
    assert np.isfinite([line["loss"] for line in losses]).all()
    weights, cams = tmp_path / "run" / "run.pth", tmp_path / "cams"
    flags = f"--voc12_root {root} --infer_list train --weights {weights} --device cpu --scales 1"
    infer_cam.main(infer_cam.parse_args([*flags.split(), "--out_cam", str(cams)]))
    files = [load_cam(cams / f"{name}.npz") for name in names]
    assert [file.keys.tolist() for file in files] == [[0], [], [], [1]]
    assert all(file.cam.shape[1:] == file.size for file in files)


def test_labels_without_any_class_are_refused(tmp_path):
    root = write_voc_tree(tmp_path / "pets", {"train": 3}, class_count=3, classes=PETS)
    save_labels(root / LABEL_FILE, load_ids(root, "train"), np.zeros((3, 3)))
    assert _error(root, tmp_path, *SMALL) == (
        "none of the 3 images shows a class, by their labels; check --labels"
    )


def test_vocs_own_archive_trains_without_a_val_list(tmp_path, capsys):
    """SegmentationClass and a list, no SegmentationClassAug, no val, no cls_labels.npy."""
    root = write_voc_tree(tmp_path / "pets", {"train": 4}, class_count=3, classes=PETS)
    (root / LABEL_FILE).unlink()
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    main(_args(root, tmp_path, *SMALL[:-2], "--method", "cam"))
    out = capsys.readouterr().out
    assert "no validation, which --val_list would name: image list not found: neither val" in out
    assert f"masks of {root / 'SegmentationClass'}, there is no SegmentationClassAug" in out
    assert not [line for line in log_lines(tmp_path / "run") if "val_miou_cam" in line]
    shutil.copy(root / "ImageSets/Segmentation/train.txt", root / "ImageSets/Segmentation/val.txt")
    main(_args(root, tmp_path, *SMALL[:-2], "--method", "cam", name="validated"))
    assert [line for line in log_lines(tmp_path / "validated") if "val_miou_cam" in line]


def test_image_that_cannot_be_read_ends_the_process_with_one_line(tmp_path):
    # In a process of its own, since the loader's workers, which ignore SIGTERM, must not keep it
    # from ending.
    root = write_voc_tree(tmp_path / "pets", {"train": 2}, class_count=3, classes=PETS)
    path = root / IMAGE_DIR / "2007_000001.jpg"
    path.write_bytes(b"")
    args = _args(root, tmp_path, *SMALL, "--num_workers", 2)
    done = _process([str(REPOSITORY / "train_cpn.py")], args)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot read image {path}: ")
    assert last.endswith("; replace the file or take it off the list")
    assert "Traceback" not in last


def test_diverging_training_names_the_step_and_the_images(pets_root, tmp_path):
    args = _args(pets_root, tmp_path, *SMALL, "--method", "cam")
    args.lr = 1e30  # what the flag refuses goes wrong at once
    with pytest.raises(InputError) as error:
        main(args)
    message = str(error.value)
    assert message.startswith("loss_cls is not finite at iteration 1 (images 2007_")
    assert message.endswith(
        f"the last checkpoint is kept in {tmp_path / 'run'}; lower --lr or look at these images"
    )
    assert not (tmp_path / "run" / "run.pth").exists()


def test_maps_that_are_not_finite_are_named_by_the_validation(pets_root, tmp_path):
    """Of finite weights: a learning rate that makes them 1e38, after the only iteration."""
    args = _args(pets_root, tmp_path, *SMALL, "--method", "cam", "--val_list", "val")
    args.new_layer_factor, args.max_epoches, args.batch_size = 1e38, 1, 5
    with pytest.raises(InputError, match="not finite"):
        main(args)
    assert not (tmp_path / "run" / "run.pth").exists()


def test_unknown_loss_weight_is_named(pets_root, tmp_path):
    assert _error(pets_root, tmp_path, *SMALL, "--loss_weights", "loss_er=0") == (
        "--loss_weights names loss_er, this method has loss_cls, loss_cpcr, loss_tcp"
    )


def test_pieces_of_a_batch_and_half_precision_train(pets_root, tmp_path):
    main(
        _args(
            pets_root,
            tmp_path,
            *SMALL,
            "--accum",
            2,
            "--precision",
            "bf16",
            "--loss_weights",
            "loss_tcp=0",
        )
    )
    line = log_lines(tmp_path / "run")[1]
    assert line["loss"] == pytest.approx(line["loss_cls"] + line["loss_cpcr"], rel=1e-4)


# ============ validation ============
def test_validation_finds_the_best_threshold_of_unit_cams(pets_root, tmp_path, small_net):
    args = _args(pets_root, tmp_path, "--val_list", "val", "--method", "cam")
    measures, panels = train_cpn.make_validation(
        args, small_net, load_training_list(args), torch.device("cpu")
    )()
    assert len(panels) == 2
    confusion = np.zeros((101, 4, 4))
    losses = []
    for sample in train_cpn.make_validation(
        args, small_net, load_training_list(args), torch.device("cpu")
    ).loader:
        with torch.no_grad():
            cam = small_net(sample["scaled"][0][None])[0][0].relu()
        losses.append(
            F.multilabel_soft_margin_loss(
                small_net.forward_cam(sample["scaled"][0][None])[:, 1:].mean((2, 3)),
                sample["label"][None],
            ).item()
        )
        low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
        unit = ((cam - low - 1e-5).relu() / (high - low + 1e-5))[1:] * sample["label"][
            :, None, None
        ]
        mask = np.asarray(read_mask(mask_path(pets_root, sample["id"])))
        for t in range(101):
            prediction = torch.cat([torch.full_like(unit[:1], t / 100), unit]).argmax(dim=0).numpy()
            for truth, guess in zip(mask[mask != 255], prediction[mask != 255], strict=True):
                confusion[t, truth, guess] += 1
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        miou = np.nanmean(hits / (confusion.sum(1) + confusion.sum(2) - hits), axis=1) * 100
    assert measures["val_miou_cam"] == pytest.approx(miou.max())
    assert measures["val_threshold_cam"] == int(miou.argmax()) / 100
    assert measures["val_loss_cls"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        (("--method", "cpn"), ("cam", "cam_refined")),
        (("--method", "cpn", "--refinement", "none"), ("cam",)),
        (("--method", "cam"), ("cam",)),
    ],
)
def test_refined_maps_are_validated_where_there_are_any(pets_root, tmp_path, flags, kinds):
    args = _args(pets_root, tmp_path, *SMALL[:-2], "--val_list", "val", *flags)
    net, _ = train_cpn.build_network(args, PETS)
    data = load_training_list(args)
    assert train_cpn.make_validation(args, net, data, torch.device("cpu")).kinds == kinds


@pytest.mark.parametrize(
    ("folder", "what"),
    [("SegmentationClassAug", "mask of id {}"), ("JPEGImages", "no image for id {}")],
)
def test_missing_validation_files_are_counted_before_the_training(
    pets_root, tmp_path, small_net, monkeypatch, folder, what
):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    name = load_ids(pets_root, "val")[1]
    next((root / folder).glob(f"{name}.*")).unlink()
    args = _args(root, tmp_path, "--val_list", "val", "--labels", "npy")
    monkeypatch.setenv("WORLD_SIZE", "2")  # the missing file is in the other's share
    with pytest.raises(
        InputError, match=f"^1 of 2 validation images lack a file; the first: {what.format(name)}"
    ):
        train_cpn.make_validation(args, small_net, load_training_list(args), torch.device("cpu"))
