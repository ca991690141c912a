"""Trainings of two ranks: gradient, state, signals and ends are those of one process with the whole
batch.
"""

import copy
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import train_aff
import train_cpn
import train_irn
import train_seg
from network.aff import build_affinity_net
from network.expansion_weights import build_irn
from network.seg import build_seg
from network.seg_weights import load_seg
from network.weights import load_network
from tests.conftest import PETS
from tests.ranks import run_ranks
from tests.synthetic import write_voc_tree
from tests.tool.run.test_trainer import EPOCHS, STEPS, _loader, _run, _train
from tool.file.checkpoint import load_torch
from tool.run.distributed import data_parallel, mean_over_ranks
from tool.run.shards import rank as this_rank
from tool.run.shards import world_size
from tool.run.trainer import CHECKPOINT, TrainingRun, seed_everything
from voc12 import validation
from voc12.constants import IMAGE_DIR, LABEL_FILE, MASK_DIR
from voc12.lists import load_ids
from voc12.training_list import load_training_list


def _ranked_loader(epoch: int, skip: int):
    """This rank's part of the batches of tests/tool/run/test_trainer.py."""
    part = 4 // world_size()
    for batch in _loader(epoch, skip):
        yield {
            name: value[this_rank() * part : (this_rank() + 1) * part]
            for name, value in batch.items()
        }


def _fit(run: TrainingRun, batch: dict) -> dict:
    loss = (run.net(batch["x"]) - batch["y"]).square().mean()
    return {"loss_fit": loss, "loss": loss}


def _train_ranked(folder, losses_of=_fit, **changed) -> TrainingRun:
    run = _run(folder, **changed)
    run.resume("auto")
    run.train(_ranked_loader, functools.partial(losses_of, run), lambda _epoch: {})
    return run


def _lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# ============ gradients ============
def _pets_batch(count: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(count, 3)
    label[torch.arange(count), torch.arange(count) % 3] = 1
    label[0] = (
        1  # one image has more labels than the others, so the ranks keep different numbers of maps
    )
    return {
        "id": [str(i) for i in range(count)],
        "image": torch.randn(count, 3, 64, 72, generator=generator),
        "label": label,
        "mask": torch.rand(count, 64, 72, generator=generator) < 0.6,
        "visible": 0.4 + 0.1 * torch.arange(count),
    }


def _cell_batch(count: int, height: int, width: int, stride: int) -> dict:
    """Images with cell labels; the first half of the batch has far fewer confident cells than the
    second.
    """
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (count, height // stride, width // stride), generator=generator)
    label[: count // 2, 2:] = 255
    return {
        "id": [str(i) for i in range(count)],
        "image": torch.randn(count, 3, height, width, generator=generator),
        "label": label,
    }


def _methods(small_net) -> dict:
    """Name -> (network, losses of a batch, batch)."""
    methods = {}
    for name, step in train_cpn.STEPS.items():
        net = copy.deepcopy(small_net).train()
        net.dropout7.p = 0.0  # ranks draw other masks
        methods[name] = (net, functools.partial(step, net), _pets_batch(4))
    torch.manual_seed(0)
    irn = build_irn("resnet10t", "none").train()
    irn_step = functools.partial(train_irn.train_step, irn, radius=4, num_labels=4)
    methods["irn"] = (irn, irn_step, _cell_batch(4, 64, 64, 4))
    aff = build_affinity_net("resnet10t").train()
    methods["aff"] = (aff, functools.partial(train_aff.train_step, aff), _cell_batch(4, 72, 72, 8))
    for head in ("deeplabv1", "deeplabv3"):
        seg = build_seg(head, "resnet10t", 3, head_channels=8).train()
        for dropout in (
            module for module in seg.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)
        ):
            dropout.p = 0.0
        methods[head] = (
            seg,
            functools.partial(train_seg.train_step, seg),
            _cell_batch(4, 64, 64, 1),
        )
    return methods


def _gradients(net: nn.Module, losses: dict) -> tuple[dict, dict]:
    net.zero_grad()
    losses["loss"].backward()
    gradients = {
        name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None
    }
    return gradients, {
        name: mean_over_ranks(value.detach()).item() for name, value in losses.items()
    }


def test_gradient_of_two_ranks_is_that_of_the_whole_batch(small_net):
    methods = _methods(small_net)

    def compute(rank: int) -> dict:
        seed_everything(0, deterministic=True)  # each step has to do without what this refuses
        results = {}
        for name, (net, step, batch) in methods.items():
            part = {field: value[2 * rank : 2 * rank + 2] for field, value in batch.items()}
            parallel = data_parallel(net, step)  # lives until its backward
            results[name] = *_gradients(net, parallel(part)), dict(net.named_buffers())
        return results

    ranks = run_ranks(compute)
    for name, (net, step, batch) in methods.items():
        expected, losses = _gradients(net, step(batch))
        assert expected, name
        for gradients, means, buffers in (result[name] for result in ranks):
            assert gradients.keys() == expected.keys(), name
            for parameter, value in expected.items():
                scale = value.abs().max().item()
                torch.testing.assert_close(
                    gradients[parameter],
                    value,
                    rtol=1e-3,
                    atol=2e-5 * scale + 1e-9,
                    msg=f"{name} {parameter}",
                )
            assert means == pytest.approx(losses, rel=1e-4), name
            for buffer, value in net.named_buffers():  # running statistics of the head's batch norm
                torch.testing.assert_close(
                    buffers[buffer], value, rtol=1e-4, atol=1e-6, msg=f"{name} {buffer}"
                )


def test_pieces_of_the_parts_give_the_same_gradient(tmp_path):
    def step(folder, accumulate: int) -> dict:
        run = _run(folder, accumulate=accumulate, epochs=1, steps_per_epoch=1)
        run.net[1].p = 0.0
        run.resume("never")
        run.train(
            lambda *_: [next(_ranked_loader(0, 0))], functools.partial(_fit, run), lambda _: {}
        )
        return {name: value.detach() for name, value in run.net.named_parameters()}

    alone = step(tmp_path / "one", 1)
    for weights in run_ranks(lambda rank: step(tmp_path / "two", 2)):
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value)
    one, two = (
        next(line for line in _lines(tmp_path / name) if line["kind"] == "train")
        for name in ("one", "two")
    )
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)


# ============ state ============
def test_ranks_draw_other_masks_write_once_and_resume_bit_for_bit(tmp_path):
    def train(name: str, **changed) -> tuple[int, float]:
        return _train_ranked(tmp_path / name, **changed).step, torch.rand(1).item()

    first, second = run_ranks(lambda rank: train("whole"))
    assert first[0] == second[0] == EPOCHS * STEPS
    assert first[1] != second[1]
    assert run_ranks(lambda rank: train("parts", stop_after=4)) == [0, 0]
    assert run_ranks(lambda rank: train("parts")) == [first, second]
    a, b = (load_torch(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    for name, value in a["net"].items():
        assert torch.equal(value, b["net"][name]), name
    assert torch.equal(a["rng"], b["rng"])
    assert len(a["other_ranks"]) == 1
    assert torch.equal(a["other_ranks"][0]["rng"], b["other_ranks"][0]["rng"])
    assert not torch.equal(a["rng"], a["other_ranks"][0]["rng"])
    lines = _lines(tmp_path / "whole")
    assert [line["kind"] for line in lines] == [
        "start",
        *["train"] * STEPS,
        "epoch",
        *["train"] * STEPS,
        "epoch",
    ]
    assert lines[0]["processes"] == 2


def test_another_number_of_ranks_goes_on(tmp_path):
    with pytest.raises(SystemExit):
        _train_ranked(tmp_path, stop_after=2)
    assert run_ranks(lambda rank: _train_ranked(tmp_path).step) == [EPOCHS * STEPS] * 2
    assert load_torch(tmp_path / CHECKPOINT)["step"] == EPOCHS * STEPS


def test_checkpoint_that_some_ranks_do_not_see_is_named(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2))
    results = run_ranks(
        lambda rank: _train_ranked(tmp_path if rank == 0 else tmp_path / "empty").step
    )
    assert results[0] == (
        f"InputError: not every process sees {tmp_path / CHECKPOINT}; give all machines one "
        "--results folder, on a shared disk"
    )
    assert results[1].startswith("InputError: not every process sees")


# ============ ends ============
def test_signal_to_one_rank_stops_both_after_the_same_iteration(tmp_path):
    def losses_of(run: TrainingRun, batch: dict) -> dict:
        if run.step == 1 and this_rank() == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return _fit(run, batch)

    assert run_ranks(lambda rank: _train_ranked(tmp_path, losses_of)) == [
        128 + signal.SIGTERM,
        128 + signal.SIGINT,
    ]
    assert load_torch(tmp_path / CHECKPOINT)["step"] == 2


def test_loss_that_is_not_finite_on_one_rank_ends_both_with_its_images(tmp_path):
    def losses_of(run: TrainingRun, batch: dict) -> dict:
        losses = _fit(run, batch)
        bad = run.step == 4 and this_rank() == 1
        return losses | ({"loss_fit": losses["loss_fit"] * float("nan")} if bad else {})

    message = (
        "InputError: loss_fit is not finite at iteration 4 (images 1_1_2, 1_1_3); the last "
        f"checkpoint is kept in {tmp_path}; lower --lr or look at these images"
    )
    assert run_ranks(lambda rank: _train_ranked(tmp_path, losses_of)) == [message, message]
    assert load_torch(tmp_path / CHECKPOINT)["step"] == STEPS


def test_segmentation_training_is_shared(pets_root, tmp_path, monkeypatch):
    """Two ranks of train_seg.py: rank 0 alone writes, the validation counts the images of both, the
    loss the pixels of both.
    """
    flags = [
        "--voc12_root",
        pets_root,
        "--train_list",
        "train",
        "--mask_dir",
        pets_root / MASK_DIR,
        "--num_workers",
        0,
    ]
    flags += [
        "--backbone",
        "resnet10t",
        "--weights",
        "none",
        "--head_channels",
        8,
        "--crop_size",
        64,
        "--batch_size",
        4,
    ]
    flags += ["--max_iterations", 1, "--device", "cpu", "--log_every", 1, "--results", tmp_path]
    args = train_seg.parse_args([str(flag) for flag in flags])
    build = train_seg.build_seg

    def without_dropout(**config) -> nn.Module:  # of which ranks draw other masks
        net = build(**config)
        for module in net.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
        return net

    monkeypatch.setattr(train_seg, "build_seg", without_dropout)
    assert run_ranks(lambda rank: train_seg.main(args)) == [None, None]
    start, train, validation, end = _lines(tmp_path / "seg")
    assert [line["kind"] for line in (start, train, validation, end)] == [
        "start",
        "train",
        "epoch",
        "end",
    ]
    net = load_seg(tmp_path / "seg" / "seg_best.pth")[0]
    measures, _ = train_seg.make_validation(
        args, net, load_training_list(args), torch.device("cpu")
    )()
    assert validation["val_miou"] == pytest.approx(measures["val_miou"])
    args.session_name = "alone"
    train_seg.main(args)
    # the head's batch norm takes its statistics over both ranks
    assert train["loss"] == pytest.approx(_lines(tmp_path / "alone")[1]["loss"], rel=1e-4)


@pytest.mark.parametrize("lacking", [0, 1])  # in the share of this rank
def test_ranks_agree_on_whether_there_is_a_validation(tmp_path, small_net, lacking):
    lists = {"train": 4, "val": 4}
    root = write_voc_tree(tmp_path / "pets", lists, class_count=3, classes=PETS)
    labels = np.load(root / LABEL_FILE, allow_pickle=True).item()
    name = load_ids(root, "val")[lacking]
    del labels[name]
    np.save(root / LABEL_FILE, labels)
    flags = ["--voc12_root", str(root), "--train_list", "train", "--num_workers", "0"]
    said = []

    def validates(rank: int, *more: str) -> tuple[bool, list[str]]:
        args = train_cpn.parse_args([*flags, *more])
        data = load_training_list(args)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validation, "note", said.append)
            made = train_cpn.make_validation(args, small_net, data, torch.device("cpu"))
        return made is not None, said

    (one, lines), (two, _) = run_ranks(validates)
    assert (one, two) == (False, False)
    assert len(lines) == 1
    assert name in lines[0]
    results = run_ranks(lambda rank: validates(rank, "--val_list", "val"))
    assert all(result.startswith("InputError: ") for result in results)


TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    "2",
    "train_cpn.py",
)


def _torchrun(root, results, *flags) -> subprocess.CompletedProcess:
    small = (
        "--backbone",
        "resnet10t",
        "--weights",
        "none",
        "--method",
        "cam",
        "--crop_size",
        64,
        "--resize_long",
        60,
        90,
    )
    common = (
        "--voc12_root",
        root,
        "--results",
        results,
        "--session_name",
        "run",
        "--train_list",
        "train",
        "--max_epoches",
        1,
    )
    words = [
        str(word)
        for word in (
            *TORCHRUN,
            *common,
            *small,
            "--num_workers",
            0,
            "--device",
            "cpu",
            "--log_every",
            1,
            *flags,
        )
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words,
        cwd=Path(train_cpn.__file__).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_torchrun_trains_and_validates_like_one_process(pets_root, tmp_path):
    done = _torchrun(pets_root, tmp_path, "--batch_size", 4, "--val_list", "train")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights: ") == 1  # rank 0 alone speaks
    lines = _lines(tmp_path / "run")
    assert [line["kind"] for line in lines] == ["start", "train", "epoch", "verdict", "end"]
    args = train_cpn.parse_args(
        [
            "--voc12_root",
            str(pets_root),
            "--val_list",
            "train",
            "--method",
            "cam",
            "--num_workers",
            "0",
        ]
    )
    net = load_network(tmp_path / "run" / "run.pth")[0].eval()
    measures, _ = train_cpn.make_validation(
        args, net, load_training_list(args), torch.device("cpu")
    )()
    assert {name: lines[2][name] for name in measures} == pytest.approx(measures, rel=1e-5)


def test_rank_that_dies_ends_the_run_with_its_error(tmp_path):
    root = write_voc_tree(tmp_path / "pets", {"train": 4}, class_count=3, classes=PETS)
    path = root / IMAGE_DIR / "2007_000001.jpg"
    path.write_bytes(b"")
    done = _torchrun(root, tmp_path, "--batch_size", 4, "--val_list", "none")
    assert done.returncode == 1
    assert f"error: cannot read image {path}: " in done.stderr
    assert not (tmp_path / "run" / "run.pth").exists()
