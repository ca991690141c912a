"""The training loop on a network of one layer: steps, checkpoints, resuming, signals, and the
messages it stops with.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from tests.ranks import run_ranks
from tool.errors import InputError
from tool.file.atomic import read_json_lines
from tool.file.checkpoint import load_torch, save_torch
from tool.run.run_log import RunLog
from tool.run.trainer import CHECKPOINT, TrainingRun, seed_everything, to_device

ROOT = Path(__file__).parents[3]
EPOCHS, STEPS = 2, 3
RESUMES = (
    "import sys; from pathlib import Path; from tests.tool.run.test_trainer import _run; "
    "_run(Path(sys.argv[1])).resume('auto')"
)


class _Net(nn.Sequential):
    """Dropout draws from the global generator in every iteration, so a resumed run must have its
    state.
    """

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def _run(folder, **changed) -> TrainingRun:
    torch.manual_seed(0)
    net = _Net()
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    given = {
        "net": net,
        "optimizer": optimizer,
        "schedule": schedule,
        "device": torch.device("cpu"),
        "folder": folder,
        "settings": {"seed": 0, "lr": 0.1, "num_workers": 0},
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "log_every": 1,
    }
    if "log" not in changed:  # whose TensorBoard starts a thread
        given["log"] = RunLog(folder)
    return TrainingRun(**(given | changed))


def _loader(epoch: int, skip: int):
    for step in range(skip, STEPS):
        rng = np.random.default_rng([epoch, step])
        x = torch.from_numpy(rng.normal(size=(4, 4)).astype(np.float32))
        yield {
            "id": [f"{epoch}_{step}_{i}" for i in range(4)],
            "x": x,
            "y": x.sum(dim=1, keepdim=True),
        }


def _losses(run: TrainingRun):
    def losses_of(batch: dict) -> dict:
        loss = (run.net(batch["x"]) - batch["y"]).square().mean()
        return {"loss_fit": loss, "loss": loss}

    return losses_of


def _train(
    run: TrainingRun, mode: str = "auto", losses_of=None, on_epoch=lambda _epoch: {}
) -> TrainingRun:
    run.resume(mode)
    run.train(_loader, losses_of or _losses(run), on_epoch)
    return run


def _lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _assert_same_checkpoint(one, two) -> None:
    def flat(value, path=""):
        if isinstance(value, dict):
            return {
                k: v
                for name, part in value.items()
                for k, v in flat(part, f"{path}/{name}").items()
            }
        if isinstance(value, (list, tuple)):
            return flat(dict(enumerate(value)), path)
        return {path: value}

    a, b = (flat(load_torch(folder / CHECKPOINT)) for folder in (one, two))
    assert a.keys() == b.keys()
    for name, value in a.items():
        same = torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else value == b[name]
        assert same, name


# ============ steps and logs ============
def test_whole_training_matches_a_plain_loop(tmp_path):
    run = _train(_run(tmp_path))
    expected = _run(tmp_path / "other")
    expected.net.train()
    for epoch in range(EPOCHS):
        for batch in _loader(epoch, 0):
            expected.optimizer.zero_grad()
            _losses(expected)(batch)["loss"].backward()
            expected.optimizer.step()
            expected.schedule.step()
    assert run.step == EPOCHS * STEPS == run.max_step
    for ours, theirs in zip(run.net.parameters(), expected.net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not run.net.training  # validation comes last


def test_log_has_a_line_for_the_start_each_step_and_each_epoch(tmp_path):
    _train(_run(tmp_path), on_epoch=lambda epoch: {"val_miou": 10.0 * epoch})
    lines = _lines(tmp_path)
    step = ["train"] * STEPS
    assert [line["kind"] for line in lines] == ["start", *step, "epoch", *step, "epoch"]
    assert lines[0]["settings"] == {"seed": 0, "lr": 0.1, "num_workers": 0}
    assert {"commit", "versions", "command", "machine"} <= set(lines[0])
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines if line["kind"] == "train"] == [0, 0, 0, 1, 1, 1]
    assert lines[1]["lr"] == pytest.approx(0.1)  # the rate that the step was made with
    assert lines[2]["lr"] == pytest.approx(0.05)
    assert [line["val_miou"] for line in lines if line["kind"] == "epoch"] == [0.0, 10.0]


def test_log_every_thins_the_lines_but_keeps_the_last(tmp_path):
    _train(_run(tmp_path, log_every=4))
    assert [line["step"] for line in _lines(tmp_path) if line["kind"] == "train"] == [4, 6]


def test_what_comes_before_the_training_does_not_count_into_its_speed(tmp_path):
    run = _run(tmp_path)
    run._last_iteration -= 1e9  # as if labels had been made for thirty years
    _train(run)
    assert _lines(tmp_path)[1]["images_per_s"] > 1e-6


@pytest.mark.parametrize("accumulate", [2, 3, 4, 9])
def test_pieces_of_a_batch_give_the_gradient_of_the_whole(tmp_path, accumulate):
    def gradients(pieces: int) -> tuple[list[torch.Tensor], float]:
        folder = tmp_path / str(pieces)
        run = _run(folder, accumulate=pieces, epochs=1, steps_per_epoch=1)
        run.net[1].p = 0.0  # dropout draws another mask for each piece
        run.resume("never")
        run.train(lambda *_: [next(_loader(0, 0))], _losses(run), lambda _: {})
        return [p.grad for p in run.net.parameters()], _lines(folder)[1]["loss_fit"]

    (whole, loss), (parts, sum_of_parts) = gradients(1), gradients(accumulate)
    assert sum_of_parts == pytest.approx(loss, rel=1e-6)
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(two, one)


def test_precision_is_autocast_around_the_losses_alone(tmp_path):
    run, seen = _run(tmp_path, precision="bf16", epochs=1, steps_per_epoch=1), []

    def losses_of(batch: dict) -> dict:
        seen.append(run.net(batch["x"]).dtype)
        return _losses(run)(batch)

    run.train(lambda *_: [next(_loader(0, 0))], losses_of, lambda _: {})
    assert seen == [torch.bfloat16]
    assert all(p.grad.dtype == torch.float32 for p in run.net.parameters())


def test_convolutions_are_searched_for_crops_and_not_for_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    run, seen = _run(tmp_path, epochs=1, steps_per_epoch=1), []

    def searches(then):
        seen.append(torch.backends.cudnn.benchmark)
        return then

    run.train(
        lambda *_: [next(_loader(0, 0))],
        lambda batch: searches(_losses(run)(batch)),
        lambda _: searches({}),
    )
    assert seen == [True, False]
    assert not torch.backends.cudnn.benchmark


# ============ stopping and resuming ============
@pytest.mark.parametrize("stop", range(1, EPOCHS * STEPS + 1))
def test_stopped_and_resumed_run_ends_like_a_whole_one_bit_for_bit(tmp_path, stop):
    _train(_run(tmp_path / "whole"))
    with pytest.raises(SystemExit) as exit:
        _train(_run(tmp_path / "parts", stop_after=stop))
    assert exit.value.code == 0
    assert load_torch(tmp_path / "parts" / CHECKPOINT)["step"] == stop
    torch.manual_seed(99)  # whatever the new process starts from
    _train(_run(tmp_path / "parts"))
    _assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")
    kinds = [
        line["kind"]
        for line in _lines(tmp_path / "parts")
        if line["kind"] not in ("train", "epoch")
    ]
    assert kinds == ["start", "stop", "resume"]


@pytest.mark.parametrize("stop", range(1, EPOCHS * STEPS + 1))
def test_every_epoch_is_validated_once_whenever_the_run_was_stopped(tmp_path, stop):
    epochs = []
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=stop), on_epoch=lambda epoch: epochs.append(epoch) or {})
    _train(_run(tmp_path), on_epoch=lambda epoch: epochs.append(epoch) or {})
    assert epochs == list(range(EPOCHS))


def test_never_starts_over(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path / "a", stop_after=2))
    _train(_run(tmp_path / "a"), mode="never")
    _train(_run(tmp_path / "b"))
    _assert_same_checkpoint(tmp_path / "a", tmp_path / "b")
    assert [
        line["kind"] for line in _lines(tmp_path / "a") if line["kind"] in ("start", "resume")
    ] == ["start", "start"]


def test_never_removes_what_a_run_that_stops_early_would_be_mistaken_for(tmp_path):
    folder = tmp_path / "cpn"
    _train(_run(folder))
    own = ["cpn.pth", "cpn.safetensors", "cpn_best.pth", "cpn_best.safetensors"]
    others = ["other.pth", "cpn.txt"]
    for name in own + others:
        (folder / name).touch()
    _run(folder).resume("never")  # and is killed here
    assert [name for name in [*own, *others, CHECKPOINT] if (folder / name).exists()] == others
    again = _run(folder)
    again.resume("auto")
    assert again.step == 0


@pytest.mark.parametrize("fails", ["step", "epoch", "resume"])
def test_a_run_that_fails_leaves_its_folder(tmp_path, fails):
    def fail(*_):
        raise InputError("no")

    run = _run(tmp_path)
    if fails == "resume":
        (tmp_path / CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(InputError):
        _train(
            run,
            losses_of=fail if fails == "step" else None,
            on_epoch=fail if fails == "epoch" else lambda _epoch: {},
        )
    assert run._lock is None


def test_finished_run_has_nothing_left_to_do(tmp_path):
    first = _train(_run(tmp_path))
    again = _run(tmp_path)
    again.resume("auto")
    again.train(
        _loader, lambda _: pytest.fail("a step was made"), lambda _: pytest.fail("validated")
    )
    for one, two in zip(first.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(one, two)


def test_changed_setting_is_named(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2))
    with pytest.raises(InputError) as error:
        _run(tmp_path, settings={"seed": 0, "lr": 0.2, "num_workers": 0}).resume("auto")
    assert str(error.value) == (
        f"session {tmp_path} was started with --lr 0.1, now it is 0.2; "
        "use the same flags, another --session_name, or --resume never to start over"
    )


def test_other_data_are_refused(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2, data="one"))
    with pytest.raises(
        InputError,
        match="was started with other images, labels or classes; use another --session_name",
    ):
        _run(tmp_path, data="other").resume("auto")
    state = load_torch(tmp_path / CHECKPOINT)
    del state["data"]
    save_torch(tmp_path / CHECKPOINT, state)
    run = _run(tmp_path, data="other")  # a checkpoint of before data were kept
    run.resume("auto")
    assert run.step == 2


def test_other_files_to_learn_from_are_refused(tmp_path):
    settings = {"seed": 0, "lr": 0.1, "num_workers": 0, "mask_dir": "masks"}
    was, now = {"a.png": "1", "b.png": "2"}, {"a.png": "1", "b.png": "3"}
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2, settings=settings, sources={"mask_dir": was}))
    with pytest.raises(InputError) as error:
        _run(tmp_path, settings=settings, sources={"mask_dir": now}).resume("auto")
    assert str(error.value) == (
        f"1 of 2 files in --mask_dir masks are others than session {tmp_path} was started with, "
        "first b.png; use another --session_name, or --resume never to start over"
    )
    _run(tmp_path, settings=settings, sources={"mask_dir": was}).resume("auto")
    for old in (None, 3, {"mask_dir": 3}, {"cam_dir": was}):  # of before, or of nobody
        state = load_torch(tmp_path / CHECKPOINT) | {"sources": old}
        save_torch(tmp_path / CHECKPOINT, state)
        run = _run(tmp_path, settings=settings, sources={"mask_dir": now})
        run.resume("auto")
        assert run.step == 2
    del state["sources"]
    save_torch(tmp_path / CHECKPOINT, state)
    _run(tmp_path, settings=settings, sources={"mask_dir": now}).resume("auto")


def test_other_weights_to_start_from_are_refused(tmp_path):
    settings = {"seed": 0, "lr": 0.1, "num_workers": 0, "weights": "a.pth"}
    was, now = {"weights": {"a.pth": "1"}}, {"weights": {"a.pth": "2"}}
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2, settings=settings, sources=was))
    with pytest.raises(InputError) as error:
        _run(tmp_path, settings=settings, sources=now).resume("auto")
    assert str(error.value) == (
        f"--weights a.pth is another file than session {tmp_path} was started with; use another "
        "--session_name, or --resume never to start over"
    )
    _run(tmp_path, settings=settings, sources=was).resume("auto")
    state = load_torch(tmp_path / CHECKPOINT) | {"sources": {}}  # of before weights were kept
    save_torch(tmp_path / CHECKPOINT, state)
    run = _run(tmp_path, settings=settings, sources=now)
    run.resume("auto")
    assert run.step == 2


def test_dropout_of_apples_gpus_goes_on_where_it_was(tmp_path, monkeypatch):
    drawn = [torch.zeros(3, dtype=torch.uint8), torch.ones(3, dtype=torch.uint8)]
    state, mps = {}, torch.device("mps")
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: drawn[1])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda value: state.update(now=value))
    run = _run(tmp_path)
    assert run._random_state()["mps_rng"] == []
    run.device = mps
    saved = run._random_state()
    run._set_random_state(saved)
    assert torch.equal(state["now"], drawn[1])
    del saved["mps_rng"]  # of a checkpoint of before it was kept
    run._set_random_state(saved)


def test_a_failed_validation_costs_no_epoch(tmp_path):
    def fail(_epoch):
        raise InputError("no mask")

    run = _run(tmp_path)
    run.resume("auto")
    with pytest.raises(InputError, match="no mask"):
        run.train(_loader, _losses(run), fail)
    again = _run(tmp_path)
    again.resume("auto")
    assert (again.step, again.epoch) == (again.steps_per_epoch, 0)


def test_checkpoint_older_than_a_flag_continues_at_the_flags_default_only(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2))
    defaults = {"seed": 1, "lr": 0.01, "num_workers": 8, "cutmix": 0.0}
    older = {"seed": 0, "lr": 0.1, "num_workers": 0}
    run = _run(tmp_path, settings=older | {"cutmix": 0.0}, defaults=defaults)
    run.resume("auto")
    assert run.step == 2
    with pytest.raises(InputError, match=r"started with --cutmix 0\.0, now it is 0\.5"):
        _run(tmp_path, settings=older | {"cutmix": 0.5}, defaults=defaults).resume("auto")
    # a default hides no setting
    with pytest.raises(InputError, match=r"started with --lr 0\.1, now it is 0\.01"):
        _run(tmp_path, settings=older | {"lr": 0.01, "cutmix": 0.0}, defaults=defaults).resume(
            "auto"
        )


def test_settings_that_change_no_number_may_change(tmp_path):
    with pytest.raises(SystemExit):
        _train(_run(tmp_path, stop_after=2))
    run = _run(
        tmp_path,
        settings={"seed": 0, "lr": 0.1, "num_workers": 4, "device": "cpu", "resume": "auto"},
    )
    run.resume("auto")
    assert run.step == 2


def test_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(InputError, match=rf"^cannot read checkpoint {tmp_path / CHECKPOINT}: "):
        _run(tmp_path).resume("auto")


def test_a_session_removes_what_its_killed_writers_left_and_nothing_else(tmp_path):
    folder = tmp_path / "cpn"
    folder.mkdir()
    own = [".checkpoint.pth.x7k2.part", ".cpn.pth.abcd.part", ".cpn_best.pth.q.part"]
    others = [".eval.json.x.part", "notes.part"]
    for name in own + others:
        (folder / name).touch()
    _run(folder).resume("auto")
    assert [name for name in own + others if (folder / name).exists()] == others


def test_checkpoints_inside_an_epoch_follow_the_clock(tmp_path):
    steps = []
    run = _run(tmp_path, save_minutes=-1.0)
    save = run.save
    run.save = lambda: steps.append(run.step) or save()
    _train(run)
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_after_the_iteration_and_leaves(tmp_path, number, status):
    run = _run(tmp_path)
    before = signal.getsignal(number)

    def losses_of(batch: dict) -> dict:
        if run.step == 1:
            os.kill(os.getpid(), number)
        return _losses(run)(batch)

    with pytest.raises(SystemExit) as exit:
        _train(run, losses_of=losses_of)
    assert exit.value.code == status
    assert load_torch(tmp_path / CHECKPOINT)["step"] == 2
    assert _lines(tmp_path)[-1]["signal"] == number
    assert signal.getsignal(number) == before
    _train(_run(tmp_path))
    _train(_run(tmp_path / "whole"))
    _assert_same_checkpoint(tmp_path / "whole", tmp_path)


# ============ what it stops with ============
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_named_with_step_and_images(tmp_path, value):
    run = _run(tmp_path)

    def losses_of(batch: dict) -> dict:
        losses = _losses(run)(batch)
        return (
            {"loss_fit": losses["loss"], "loss_bad": losses["loss"] * value, "loss": losses["loss"]}
            if run.step == 4
            else losses
        )

    with pytest.raises(InputError) as error:
        _train(run, losses_of=losses_of)
    assert str(error.value) == (
        "loss_bad is not finite at iteration 4 (images 1_1_0, 1_1_1, 1_1_2, 1_1_3); "
        f"the last checkpoint is kept in {tmp_path}; lower --lr or look at these images"
    )
    state = load_torch(tmp_path / CHECKPOINT)
    assert state["step"] == STEPS  # that of the end of the first epoch
    assert all(value.isfinite().all() for value in state["net"].values())


def test_full_device_memory_is_named(tmp_path):
    def losses_of(_batch: dict) -> dict:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError) as error:
        _train(_run(tmp_path), losses_of=losses_of)
    assert str(error.value) == (
        "the device ran out of memory; lower --batch_size or --crop_size, raise --accum, or set "
        "--precision bf16"
    )


# ============ helpers ============
def test_to_device_moves_tensors_and_puts_images_in_channels_last():
    batch = {"id": ["a"], "image": torch.zeros(1, 3, 4, 5), "label": torch.zeros(1, 2)}
    moved = to_device(batch, torch.device("cpu"))
    assert moved["id"] == ["a"]
    assert moved["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["image"].is_contiguous()
    assert torch.equal(moved["label"], batch["label"])


def test_deterministic_algorithms_are_asked_for_on_request_alone():
    def ask(deterministic: bool) -> tuple:
        seed_everything(0, deterministic)
        return torch.are_deterministic_algorithms_enabled(), os.environ.get(
            "CUBLAS_WORKSPACE_CONFIG"
        )

    # In processes of their own: it cannot be taken back.
    assert run_ranks(lambda _: ask(True), ranks=1) == [(True, ":4096:8")]
    assert run_ranks(lambda _: ask(False), ranks=1) == [(False, None)]


def test_seed_everything_fixes_torch_and_numpy():
    drawn = []
    for _ in range(2):
        seed_everything(3)
        drawn.append((torch.rand(2).tolist(), np.random.rand(2).tolist()))  # noqa: NPY002
    assert drawn[0] == drawn[1]


def test_two_processes_do_not_train_one_session(tmp_path):
    """The second is refused while the first trains, whether there is a checkpoint yet or not, and
    may go on after it.
    """
    run = _run(tmp_path)
    run.resume("auto")
    other = partial(
        subprocess.run,
        [sys.executable, "-c", RESUMES, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    refused = other(check=False)
    message = (
        f"another process is training session {tmp_path}; wait for it, or give this training "
        "another --session_name"
    )
    assert message in refused.stderr
    assert len(read_json_lines(tmp_path / "log.jsonl")) == 1  # the second has left no line in it
    run.train(_loader, _losses(run), lambda _epoch: {})
    assert message in other(check=False).stderr  # its weights are still to be written
    run.leave_folder()
    again = other(check=True)
    assert f"continuing {tmp_path} at iteration {EPOCHS * STEPS}" in again.stderr + again.stdout


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"settings": None}, "is no checkpoint of a training; take it away"),
        ({"step": "3"}, "is no checkpoint of a training; take it away"),
        ({"rng": 3}, r"is damaged \(TypeError\); --resume never starts over"),
        ({"other_ranks": 3}, r"is damaged \(TypeError\); --resume never starts over"),
        ({"schedule": {"lr_lambdas": 3}}, r"is damaged \(\w+\); --resume never starts over"),
        ({"net": {"0.weight": 3}}, "does not fit the network"),
        ({"optimizer": {"state": 3, "param_groups": 4}}, "does not fit the network"),
        ({"settings": {"seed": torch.zeros(2)}}, "was started with --seed"),
        ({"settings": {7: 1}}, "was started with --7 1, now it is None"),
    ],
    ids=range(9),
)
def test_values_that_nobody_wrote_are_refused(tmp_path, entries, message):
    run = _run(tmp_path)
    run.save()
    state = load_torch(tmp_path / CHECKPOINT)
    if entries.get("settings"):
        entries = {"settings": state["settings"] | entries["settings"]}
    save_torch(tmp_path / CHECKPOINT, state | entries)
    with pytest.raises(InputError, match=message):
        _run(tmp_path).resume("auto")
