"""The AffinityNet trainer through its command line: what it trains, what it writes, and that a
stopped run goes on bit for bit.
"""

import pytest
import torch

import train_aff
from network.expansion_weights import load_affinity_net
from tests.expansions import assert_other_seeds_are_refused, expansion_flags
from tests.seeds import write_seeds
from tests.sessions import (
    assert_finished_weights_stay,
    assert_half_precision_is_near,
    assert_same_weights,
    log_lines,
    run_stopped,
)
from tool.errors import InputError
from tool.expand.affinity import fitting_radius
from tool.file.checkpoint import load_torch
from tool.run.trainer import seed_everything
from tool.schedule import parameter_groups
from train_aff import build_network, main, parse_args, train_step
from voc12.expansion_labels import load_scores


@pytest.fixture(scope="module")
def command(pets_root, tmp_path_factory):
    """The flags of a training of four iterations, on scores that the sessions share."""
    cam_dir = write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")
    return expansion_flags(pets_root, cam_dir, tmp_path_factory.mktemp("labels"), 72)


@pytest.fixture(scope="module")
def session(command, tmp_path_factory):
    """The folder of a finished training."""
    results = tmp_path_factory.mktemp("results")
    main(parse_args([*command, "--results", str(results)]))
    return results / "aff"


@pytest.mark.parametrize(("preset", "lr", "high_alpha"), [("seam", 0.01, 24), ("psa", 0.1, 32)])
def test_presets(preset, lr, high_alpha):
    args = parse_args(["--preset", preset])
    assert (args.lr, args.low_alpha, args.high_alpha) == (lr, 4, high_alpha)
    assert (args.batch_size, args.max_epoches, args.crop_size, args.wt_dec, args.momentum) == (
        8,
        8,
        448,
        5e-4,
        5e-4,
    )
    own = parse_args(["--preset", preset, "--lr", "0.5", "--high_alpha", "12"])
    assert (own.lr, own.high_alpha) == (0.5, 12)


def test_training_moves_what_is_not_frozen(session, pets_root):
    net, config = load_affinity_net(session / "aff.pth")
    assert config == {"method": "aff", "backbone": "resnet10t", "preset": "seam"}
    seed_everything(0)
    fresh = build_network("resnet10t", "none")
    groups = parameter_groups(fresh, 0.01, 5e-4)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    before = {name: (value, id(value) in trained) for name, value in fresh.named_parameters()}
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name][0]) != before[name][1], name
    assert load_torch(session / "aff.pth")["training"]["iterations"] == 4


def test_log_has_the_losses_by_name(session):
    train = log_lines(session, "train")
    assert len(train) == 4
    for line in train:
        assert line["loss"] == pytest.approx(
            line["bg_loss"] / 4 + line["fg_loss"] / 4 + line["neg_loss"] / 2, rel=1e-5
        )
        assert line["bg_loss"] > 0
        assert line["neg_loss"] > 0


def test_half_precision_trains(session, command, tmp_path):
    """bf16 convolutions, float32 losses."""
    run_stopped(main, parse_args([*command, "--results", str(tmp_path), "--precision", "bf16"]), 1)
    assert_half_precision_is_near(session, tmp_path / "aff")


def test_stopped_run_goes_on_bit_for_bit(session, command, tmp_path):
    args = parse_args([*command, "--results", str(tmp_path)])
    for stop in (1, 3):
        run_stopped(main, args, stop)
    main(args)
    assert_same_weights(session / "aff.pth", tmp_path / "aff" / "aff.pth")
    assert_finished_weights_stay(main, args, tmp_path / "aff" / "aff.pth")


def test_scores_go_to_the_session(command, tmp_path):
    place = command.index("--label_dir")
    flags = [*command[:place], *command[place + 2 :], "--results", str(tmp_path), "--preset", "psa"]
    run_stopped(main, parse_args(flags), 1)
    files = sorted((tmp_path / "aff" / "labels").iterdir())
    assert len(files) == 5
    meta = load_scores(files[0])[2]
    assert (meta["stage"], meta["low_alpha"], meta["high_alpha"]) == ("aff_scores", 4, 32)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet38"])
def test_a_step_lowers_the_loss(backbone):
    """One step of plain SGD on one batch, in eval mode, where no dropout blurs the comparison;
    ResNet38 as released.
    """
    torch.manual_seed(0)
    net = build_network(backbone, "none").eval()
    label = torch.randint(0, 3, (1, 6, 7), dtype=torch.uint8)
    assert fitting_radius(label.shape[1:]) == 2
    batch = {"image": torch.randn(1, 3, 48, 56), "label": label}
    parameters = [
        parameter for group in parameter_groups(net, 0.01, 0) for parameter in group["params"]
    ]
    losses = train_step(net, batch)
    gradients = torch.autograd.grad(losses["loss"], parameters)
    assert all(gradient.isfinite().all() for gradient in gradients)
    length = sum(gradient.square().sum() for gradient in gradients)
    assert length > 0
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 1e-3 * losses["loss"] / length * gradient
        after = train_step(net, batch)["loss"]
    assert after < losses["loss"]


def test_other_seeds_are_refused_before_labels_are_made(command, pets_root, tmp_path, monkeypatch):
    assert_other_seeds_are_refused(train_aff, command, pets_root, tmp_path, monkeypatch)


def test_other_settings_are_refused_before_labels_are_made(command, tmp_path, monkeypatch):
    flags = [*command, "--results", str(tmp_path)]
    run_stopped(main, parse_args(flags), 1)
    monkeypatch.setattr(train_aff, "make_labels", lambda *_: pytest.fail("labels were made"))
    with pytest.raises(InputError, match="was started with --lr"):
        main(parse_args([*flags, "--lr", "0.5"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--crop_size", "100"], "--crop_size 100 must be a multiple of 8, at least 24"),
        (["--batch_size", "6"], "train has 5 images, fewer than --batch_size 6; lower it"),
        (
            ["--backbone", "resnet38", "--weights", "imagenet"],
            "--weights imagenet: get ilsvrc-cls_rna-a1_cls1000",
        ),
        (
            ["--backbone", "resnet38", "--weights", "missing.params"],
            "ResNet38 weights not found: missing.params; get ilsvrc",
        ),
        (
            ["--weights", "missing.pth"],
            "^weights not found: missing.pth; give a file of the timm model",
        ),
        (
            ["--cam_dir", "nowhere"],
            "5 of 5 images have no CAM file in nowhere, first 2007_000000; run infer_cam.py for "
            "them",
        ),
    ],
)
def test_wrong_flags_are_named(command, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        main(parse_args([*command, "--results", str(tmp_path), *flags]))
