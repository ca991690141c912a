"""The IRN trainer through its command line: what it trains, what it writes, and that a stopped run
goes on bit for bit.
"""

import pytest
import torch
import torchvision

import train_irn
from flags.irn_training import RELEASED_THRESHOLDS
from network.expansion_weights import build_irn, load_irn
from tests.expansions import assert_other_seeds_are_refused, expansion_flags
from tests.seeds import seed_of, write_seeds
from tests.sessions import (
    assert_finished_weights_stay,
    assert_half_precision_is_near,
    assert_same_weights,
    log_lines,
    run_stopped,
)
from tool.errors import InputError
from tool.file.cam_file import CamFile, save_cam
from tool.file.checkpoint import load_torch
from tool.file.images import read_mask_meta
from tool.run.trainer import seed_everything
from train_irn import main, parameter_groups, parse_args
from voc12.expansion_data import TopLeftCrops
from voc12.expansion_labels import open_seeds
from voc12.lists import load_ids
from voc12.threshold_choice import choose_sure_thresholds, choose_threshold
from voc12.training_list import load_training_list


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


@pytest.fixture(scope="module")
def command(pets_root, cam_dir, tmp_path_factory):
    """The flags of a training of four iterations, on labels that the sessions share."""
    return expansion_flags(pets_root, cam_dir, tmp_path_factory.mktemp("labels"), 80)


@pytest.fixture(scope="module")
def session(command, tmp_path_factory):
    """The folder of a finished training."""
    results = tmp_path_factory.mktemp("results")
    main(parse_args([*command, "--results", str(results)]))
    return results / "irn"


def test_released_settings_are_the_defaults():
    args = parse_args([])
    assert (args.batch_size, args.max_epoches, args.crop_size, tuple(args.scale)) == (
        32,
        3,
        512,
        (0.5, 1.5),
    )
    assert (args.lr, args.wt_dec, args.momentum, args.radius) == (0.1, 1e-4, 1e-4, 10)
    assert RELEASED_THRESHOLDS == {"fg_threshold": 0.30, "bg_threshold": 0.05}
    assert (args.fg_threshold, args.bg_threshold, args.crf, args.backbone, args.weights) == (
        None,
        None,
        "irn",
        "resnet50",
        "imagenet",
    )


def test_groups_have_the_released_rates():
    net = build_irn("resnet10t", "none")
    groups = parameter_groups(net, lr=0.1, weight_decay=1e-4)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 1e-4), (1.0, 1e-4)]
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(trainable)
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in trainable}


def test_training_moves_the_branches_alone(session):
    net, config = load_irn(session / "irn.pth")
    assert config == {"method": "irn", "backbone": "resnet10t", "crop_size": 80}
    seed_everything(0)
    before = build_irn("resnet10t", "none").state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name


def test_weights_say_where_they_come_from(session, pets_root):
    value = load_torch(session / "irn.pth")
    assert value["classes"] == ["cat", "dog", "owl"]
    assert value["training"]["iterations"] == 4
    assert value["training"]["settings"]["voc12_root"] == str(pets_root)
    assert {"commit", "settings"} <= set(value["training"])


def test_log_has_the_losses_by_name(session):
    lines = log_lines(session)
    assert [line["kind"] for line in lines] == [
        "start",
        "train",
        "train",
        "epoch",
        "train",
        "train",
        "epoch",
        "end",
    ]
    for line in lines:
        if line["kind"] == "train":
            assert line["pos_aff_loss"] == pytest.approx(
                (line["bg_pos_aff_loss"] + line["fg_pos_aff_loss"]) / 2, rel=1e-5
            )
            total = (
                line["pos_aff_loss"]
                + line["neg_aff_loss"]
                + line["dp_fg_loss"]
                + line["dp_bg_loss"]
            ) / 2
            assert line["loss"] == pytest.approx(total, rel=1e-5)
    assert [line["lr"] for line in lines if line["kind"] == "train"] == pytest.approx(
        [0.1 * (1 - i / 4) ** 0.9 for i in range(4)]
    )


def test_mean_shift_is_the_mean_displacement_over_full_batches(session, pets_root):
    net, _ = load_irn(session / "irn.pth")
    ids = load_ids(pets_root, "train")
    data = TopLeftCrops(pets_root, ids, net.mean, net.std, 80)
    images = torch.stack([data[index]["image"] for index in range(4)])
    with torch.no_grad():
        raw = net.train()(images)[1]
    torch.testing.assert_close(
        net.mean_shift.running_mean, raw.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    assert (net.mean_shift.running_mean != 0).all()


def test_half_precision_trains(session, command, tmp_path):
    """bf16 convolutions, float32 losses."""
    run_stopped(main, parse_args([*command, "--results", str(tmp_path), "--precision", "bf16"]), 1)
    assert_half_precision_is_near(session, tmp_path / "irn")


def test_stopped_run_goes_on_bit_for_bit(session, command, tmp_path):
    args = parse_args([*command, "--results", str(tmp_path)])
    for stop in (1, 3):
        run_stopped(main, args, stop)
    main(args)
    assert_same_weights(session / "irn.pth", tmp_path / "irn" / "irn.pth")
    assert_finished_weights_stay(main, args, tmp_path / "irn" / "irn.pth")


def test_labels_go_to_the_session_and_are_used_again(command, cam_dir, tmp_path):
    place = command.index("--label_dir")
    flags = [
        *command[:place],
        *command[place + 2 :],
        "--results",
        str(tmp_path),
        "--max_epoches",
        "1",
    ]
    labels = tmp_path / "irn" / "labels"
    inodes = []
    for _ in range(2):
        run_stopped(main, parse_args([*flags, "--resume", "never"]), 1)
        inodes.append({path.name: path.stat().st_ino for path in labels.iterdir()})
    assert inodes[0] == inodes[1]
    assert len(inodes[0]) == 5
    assert read_mask_meta(labels / next(iter(inodes[0])))["stage"] == "irn_label"


def test_other_seeds_are_refused_before_labels_are_made(command, pets_root, tmp_path, monkeypatch):
    assert_other_seeds_are_refused(train_irn, command, pets_root, tmp_path, monkeypatch)


def test_other_settings_are_refused_before_labels_are_made(command, tmp_path, monkeypatch):
    flags = [*command, "--results", str(tmp_path)]
    run_stopped(main, parse_args(flags), 1)
    monkeypatch.setattr(train_irn, "make_labels", lambda *_: pytest.fail("labels were made"))
    with pytest.raises(InputError, match="was started with --lr"):
        main(parse_args([*flags, "--lr", "0.5"]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--crop_size", "100"],
            "--crop_size 100 must be a multiple of 16 and at least 76 for --radius 10",
        ),
        (
            ["--crop_size", "64"],
            "--crop_size 64 must be a multiple of 16 and at least 76 for --radius 10",
        ),
        (["--batch_size", "6"], "train has 5 images, fewer than --batch_size 6; lower it"),
        (["--crf_set", "steps=3"], "the dense CRF has no setting steps; it has iterations"),
        (["--backbone", "convnext_atto"], r"--backbone convnext_atto has features at strides"),
        (
            ["--weights", "missing.pth"],
            "backbone weights not found: missing.pth; check --weights, or set --weights imagenet",
        ),
    ],
)
def test_wrong_flags_are_named(command, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        main(parse_args([*command, "--results", str(tmp_path), *flags]))


def test_masks_in_place_of_seeds_are_named(command, pets_root, tmp_path):
    flags = [
        *command,
        "--results",
        str(tmp_path),
        "--cam_dir",
        str(pets_root / "SegmentationClassAug"),
    ]
    with pytest.raises(
        InputError,
        match=r"5 of 5 images have no CAM file in .*; it holds masks: give the folder of CAM files",
    ):
        main(parse_args(flags))


def test_seeds_after_the_crf_are_refused(command, pets_root, tmp_path):
    name = load_ids(pets_root, "train")[0]
    folder = write_seeds(pets_root, tmp_path / "cam")
    seed = seed_of(pets_root, name)
    seed.meta["stage"] = "seed_crf"
    save_cam(folder, seed)
    with pytest.raises(
        InputError,
        match=rf"{name}\.npz is of stage seed_crf, seeds are of stage cam or cam_refined",
    ):
        main(
            parse_args(
                [
                    *command,
                    "--results",
                    str(tmp_path),
                    "--cam_dir",
                    str(folder),
                    "--label_dir",
                    str(tmp_path / "labels"),
                ]
            )
        )


def test_backbone_from_the_package_takes_a_step(pets_root):
    """efficientnet_lite0, which needs no download: its levels fit, and a step moves every
    branch.
    """
    torch.manual_seed(0)
    net = build_irn("efficientnet_lite0", "none").train()
    optimizer = torch.optim.SGD(parameter_groups(net, 0.1, 1e-4), momentum=1e-4)
    label = torch.randint(0, 2, (2, 24, 24), dtype=torch.uint8)
    losses = train_irn.train_step(
        net, {"image": torch.randn(2, 3, 96, 96), "label": label}, radius=10, num_labels=4
    )
    losses["loss"].backward()
    optimizer.step()
    assert all(
        parameter.grad.abs().sum() > 0
        for group in optimizer.param_groups
        for parameter in group["params"]
    )


def test_failed_download_says_what_to_put_where(monkeypatch, tmp_path):
    def offline(*_args, **_kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url
    with pytest.raises(InputError) as error:
        build_irn("resnet50", "imagenet")
    place = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    expected = (
        f"cannot download ImageNet weights of resnet50: no connection; put {name} at {place}, or "
        "give its path by --weights FILE"
    )
    assert str(error.value) == expected


def test_confident_thresholds_of_auto_follow_the_seeds(pets_root, cam_dir, command, capsys):
    data = load_training_list(parse_args(command))
    args = parse_args([*command, "--fg_threshold", "auto", "--bg_threshold", "auto"])
    cams = open_seeds(args, data)
    fg, bg = train_irn.confident_thresholds(args, data, cams)
    threshold = choose_threshold(pets_root, data.ids, cam_dir)
    assert bg < threshold < fg
    assert f"a class over {fg}, background under {bg}" in capsys.readouterr().out
    one = parse_args([*command, "--fg_threshold", "auto", "--bg_threshold", "0.01"])
    assert train_irn.confident_thresholds(one, data, cams) == (fg, 0.01)
    with pytest.raises(InputError, match=f"--bg_threshold 0.999 is over --fg_threshold {fg}"):
        train_irn.confident_thresholds(
            parse_args([*command, "--fg_threshold", "auto", "--bg_threshold", "0.999"]), data, cams
        )


def _restaged(root, folder, stage):
    """Seeds that say they are of this stage; None: as the released code's, which say nothing."""
    if stage is None:
        return write_seeds(root, folder, "released")
    for name in load_ids(root, "train"):
        seed = seed_of(root, name)
        save_cam(folder, CamFile(seed.id, seed.keys, seed.cam, seed.size, {"stage": stage}))
    return folder


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ("cam", "the seeds are a plain CAM's"),
        ("cam_refined", "the seeds are refined; the released number is for a plain CAM's"),
        (None, "the seeds do not say whether they are refined; the released number is for a plain"),
    ],
)
def test_thresholds_that_nobody_gave_suit_the_seeds(
    pets_root, command, tmp_path, capsys, stage, why
):
    """The numbers of the labels, what the session says, and that it goes on; flags win."""
    folder = _restaged(pets_root, tmp_path / "cam", stage)
    flags = [*command, "--cam_dir", str(folder), "--label_dir", str(tmp_path / "labels")]
    flags += ["--results", str(tmp_path)]
    run_stopped(main, parse_args(flags), 1)
    taken = RELEASED_THRESHOLDS if stage == "cam" else dict.fromkeys(RELEASED_THRESHOLDS, "auto")
    said = " ".join(f"--{name} {value}" for name, value in taken.items())
    assert f"confident labels: {said}, since {why}" in capsys.readouterr().out
    settings = log_lines(tmp_path / "irn")[0]["settings"]
    assert {name: settings[name] for name in taken} == taken
    run_stopped(main, parse_args(flags), 2)  # goes on, as it does with the same by hand
    run_stopped(main, parse_args([*flags, *said.split()]), 3)
    assert [line["kind"] for line in log_lines(tmp_path / "irn")].count("resume") == 2
    sure = choose_sure_thresholds(pets_root, load_ids(pets_root, "train"), folder)[1:]
    expected = (0.30, 0.05) if stage == "cam" else tuple(round(score, 3) for score in sure)
    metas = [read_mask_meta(path) for path in (tmp_path / "labels").iterdir()]
    assert {(meta["fg_threshold"], meta["bg_threshold"]) for meta in metas} == {expected}
    with pytest.raises(InputError, match="was started with --bg_threshold"):
        main(parse_args([*flags, "--bg_threshold", "0.01"]))


def test_thresholds_by_hand_win_whatever_the_seeds(command, pets_root):
    args = parse_args([*command, "--fg_threshold", "0.3"])  # of refined seeds
    taken = train_irn.with_thresholds(args, load_training_list(args))
    assert (taken.fg_threshold, taken.bg_threshold) == (0.3, "auto")
    args = parse_args([*command, "--fg_threshold", "0.3", "--bg_threshold", "0.05"])
    assert train_irn.with_thresholds(args, load_training_list(args)) == args
