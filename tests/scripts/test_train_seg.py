"""The segmentation trainer through its command line: what it writes, validation, resuming bit for
bit, and refusals.
"""

import json
import shutil

import numpy as np
import pytest
import torch

import evaluation_cam
from infer_seg import main as infer_main
from infer_seg import parse_args as infer_args
from network.seg_weights import load_seg
from tests.conftest import PETS
from tests.seeds import write_seeds
from tests.sessions import (
    assert_finished_weights_stay,
    assert_same_weights,
    log_lines,
    run_stopped,
)
from tool.errors import InputError
from tool.file.checkpoint import load_torch
from tool.file.images import read_mask, write_mask
from tool.file.state_dict import read_training, save_weights
from train_seg import BestWeights, main, parse_args
from voc12.constants import MASK_DIR
from voc12.lists import load_ids


@pytest.fixture(scope="module")
def command(pets_root):
    """The flags of a training of four iterations on five images, validated every two."""
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
        "--arch",
        "deeplabv3plus",
        "--backbone",
        "resnet10t",
        "--weights",
        "none",
        "--head_channels",
        16,
    ]
    flags += [
        "--crop_size",
        64,
        "--batch_size",
        2,
        "--max_iterations",
        4,
        "--val_every",
        2,
        "--device",
        "cpu",
        "--log_every",
        1,
    ]
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def session(command, tmp_path_factory):
    """The folder of a finished training."""
    results = tmp_path_factory.mktemp("results")
    main(parse_args([*command, "--results", str(results)]))
    return results / "seg"


def test_settings_of_the_papers_are_the_defaults():
    args = parse_args([])
    assert (args.arch, args.backbone, args.batch_size, args.max_iterations) == (
        "deeplabv1",
        "resnet38",
        10,
        20000,
    )
    assert (args.lr, args.wt_dec, args.momentum, args.crop_size, tuple(args.scale)) == (
        1e-3,
        5e-4,
        0.9,
        448,
        (0.5, 1.5),
    )


def test_log_and_weights_say_what_was_done(session, pets_root):
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
    assert [line["lr"] for line in lines if line["kind"] == "train"] == pytest.approx(
        [1e-3 * (1 - i / 4) ** 0.9 for i in range(4)]
    )
    value = load_torch(session / "seg.pth")
    assert value["classes"] == list(PETS)
    assert (value["training"]["iterations"], value["training"]["mask_stages"]) == (4, ["unnamed"])
    assert value["training"]["settings"]["mask_dir"] == str(pets_root / MASK_DIR)


def test_best_weights_are_those_of_the_best_validation(session):
    mious = [line["val_miou"] for line in log_lines(session, "epoch")]
    training = load_torch(session / "seg_best.pth")["training"]
    assert training["val_miou"] == max(mious)
    assert training["iterations"] == 2 * (1 + int(np.argmax(mious)))


def _save_best(path, measures):
    save_weights(path, {"state_dict": {"a": torch.zeros(1)}, "training": measures})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_best_weights_survive_a_resume_but_no_new_start(tmp_path, suffix):
    path = tmp_path / f"best{suffix}"
    BestWeights(path, 0, _save_best).update(30.0)
    for step, miou, expected in ((2, 20.0, 30.0), (2, 40.0, 40.0), (0, 20.0, 20.0)):
        BestWeights(path, step, _save_best).update(miou)
        assert read_training(path)["val_miou"] == expected


def test_the_best_is_known_when_the_format_changes(tmp_path):
    old, new = tmp_path / "best.pth", tmp_path / "best.safetensors"
    BestWeights(old, 0, _save_best).update(30.0)
    BestWeights(new, 2, _save_best).update(20.0)
    assert [path.is_file() for path in (old, new)] == [True, False]
    BestWeights(new, 2, _save_best).update(40.0)
    assert [path.is_file() for path in (old, new)] == [False, True]


def test_validation_is_the_evaluation_at_one_scale(session, pets_root, tmp_path, capsys):
    """The last validation's mIoU is that of infer_seg.py's masks, without mirror images and CRF, by
    evaluation_cam.py.
    """
    flags = [
        "--voc12_root",
        pets_root,
        "--weights",
        session / "seg.pth",
        "--scales",
        "1",
        "--flip",
        "false",
        "--crf",
        "none",
    ]
    flags += ["--out_mask", tmp_path / "mask", "--num_workers", 0, "--device", "cpu"]
    infer_main(infer_args([str(flag) for flag in flags]))
    flags = [
        "--voc12_root",
        pets_root,
        "--list",
        "val",
        "--type",
        "png",
        "--predict_dir",
        tmp_path / "mask",
        "--num_workers",
        0,
    ]
    flags += ["--absent", "skip", "--json", tmp_path / "table.json"]
    evaluation_cam.main(evaluation_cam.parse_args([str(flag) for flag in flags]))
    last = log_lines(session, "epoch")[-1]
    assert json.loads((tmp_path / "table.json").read_text())["best_miou"] == pytest.approx(
        last["val_miou"]
    )


def test_stopped_run_goes_on_bit_for_bit(session, command, tmp_path):
    """Stopped inside both rounds; five images and batches of two mean that a round begins inside an
    epoch over the data.
    """
    args = parse_args([*command, "--results", str(tmp_path)])
    for stop in (1, 3):
        run_stopped(main, args, stop)
    main(args)
    for name in ("seg.pth", "seg_best.pth"):
        assert_same_weights(session / name, tmp_path / "seg" / name)
    assert_finished_weights_stay(main, args, tmp_path / "seg" / "seg.pth")


def test_half_precision_trains_without_validation(command, tmp_path):
    flags = [
        "--precision",
        "bf16",
        "--max_iterations",
        "1",
        "--val_list",
        "none",
        "--arch",
        "deeplabv1",
    ]
    main(parse_args([*command, "--results", str(tmp_path), *flags]))
    net, config, _ = load_seg(tmp_path / "seg" / "seg.pth")
    assert config["arch"] == "deeplabv1"
    assert all(value.dtype != torch.bfloat16 for value in net.state_dict().values())
    assert not (tmp_path / "seg" / "seg_best.pth").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--max_iterations", "5"],
            "--max_iterations 5 must be a multiple of --val_every 2, and positive",
        ),
        (["--batch_size", "6"], "train has 5 images, fewer than --batch_size 6; lower it"),
        (
            ["--mask_dir", "nowhere"],
            r"--mask_dir not found: nowhere; give the folder of a mask <id>\.png for each image",
        ),
        (
            ["--accum", "2"],
            "--arch deeplabv3plus trains on two images or more at once, --batch_size 2 and --accum "
            "2 leave one",
        ),
        (
            ["--batch_size", "3", "--accum", "2"],
            "--batch_size 3 and --accum 2 leave one; raise the former or lower the latter",
        ),
        (
            ["--arch", "deeplabv1", "--backbone", "resnet38"],
            r"ResNet38 weights not found: weights/none\.params",
        ),
    ],
)
def test_wrong_flags_are_named(command, tmp_path, flags, message):
    if "resnet38" in flags:
        flags = [*flags, "--weights", "weights/none.params"]
    with pytest.raises(InputError, match=message):
        main(parse_args([*command, "--results", str(tmp_path), *flags]))


def test_missing_validation_masks_are_counted_before_the_training(command, pets_root, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    for name in load_ids(pets_root, "val"):
        (root / MASK_DIR / f"{name}.png").unlink()
    flags = ["--voc12_root", str(root), "--results", str(tmp_path), "--val_list", "val"]
    with pytest.raises(
        InputError,
        match="^2 of 2 validation images lack a file; the first: mask of id "
        f"{load_ids(root, 'val')[0]}",
    ):
        main(parse_args([*command, *flags]))


@pytest.mark.parametrize("missing", ["masks", "list"])
def test_without_masks_or_list_the_default_validation_is_left_out(
    command, pets_root, tmp_path, missing, capsys
):
    root = shutil.copytree(pets_root, tmp_path / "pets")
    names = load_ids(pets_root, "val")
    for name in names:
        (root / MASK_DIR / f"{name}.png").unlink()
    if missing == "list":
        (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    flags = ["--voc12_root", str(root), "--results", str(tmp_path), "--max_iterations", "2"]
    main(parse_args([*command, *flags]))
    why = {
        "masks": f"2 of 2 validation images lack a file; the first: mask of id {names[0]} not",
        "list": "image list not found: neither val nor ",
    }[missing]
    assert f"no validation, which --val_list would name: {why}" in capsys.readouterr().out
    assert (tmp_path / "seg" / "seg.pth").is_file()
    assert not (tmp_path / "seg" / "seg_best.pth").exists()


def test_masks_that_show_too_little_are_noted(command, pets_root, tmp_path, capsys):
    folder = shutil.copytree(pets_root / MASK_DIR, tmp_path / "masks")
    for name in load_ids(pets_root, "train"):
        mask = read_mask(folder / f"{name}.png")
        write_mask(folder / f"{name}.png", np.where(mask == 2, 2, 255))
    flags = ["--mask_dir", str(folder), "--results", str(tmp_path), "--max_iterations", "2"]
    main(parse_args([*command, *flags, "--val_list", "none"]))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(said) == 3
    assert said[0].endswith(" % of the masks' pixels are 255 and count for nothing")
    what = "in no mask; do the masks use the class list's numbers?"
    assert said[1] == f"note: cat: in the labels of 2 images, {what}"
    assert said[2] == f"note: owl: in the labels of 2 images, {what}"


def test_second_masks_teach_less(command, pets_root, tmp_path):
    folder, name = _mask_folder(pets_root, tmp_path / "second")
    for path in folder.iterdir():
        write_mask(path, np.full_like(read_mask(path), 0))
    flags = [*command, "--val_list", "none", "--agree_dir", str(folder)]
    main(parse_args([*flags, "--results", str(tmp_path)]))
    main(parse_args([*command, "--val_list", "none", "--results", str(tmp_path / "first")]))
    taught, first = (
        load_torch(place / "seg/seg.pth")["state_dict"] for place in (tmp_path, tmp_path / "first")
    )
    assert any(not torch.equal(taught[key], first[key]) for key in taught)

    (folder / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"1 of 5 images have no mask in --agree_dir .*second"):
        main(parse_args([*flags, "--results", str(tmp_path / "missing")]))


@pytest.mark.parametrize("flag", ["--mask_dir", "--agree_dir"])
def test_a_session_does_not_go_on_with_other_masks(command, pets_root, tmp_path, flag):
    folder, name = _mask_folder(pets_root, tmp_path / "masks")
    args = parse_args([*command, flag, str(folder), "--results", str(tmp_path)])
    path = folder / f"{name}.png"
    mask = read_mask(path)
    run_stopped(main, args, 1)
    write_mask(path, np.full_like(mask, 0))
    text = rf"1 of 5 files in {flag} .*masks are others than session .*seg was .* first {name}\.png"
    with pytest.raises(InputError, match=text):
        main(args)
    write_mask(path, mask, {"stage": "cam_mask"})
    with pytest.raises(InputError, match="1 of 5 files"):  # VOC's masks say nothing of themselves
        main(args)
    shutil.copy(pets_root / MASK_DIR / path.name, path)
    run_stopped(main, args, 2)


@pytest.mark.parametrize("flag", ["--mask_dir", "--agree_dir"])
def test_masks_of_replaced_photographs_teach_nothing(command, pets_root, tmp_path, flag):
    folder, name = _mask_folder(pets_root, tmp_path / "masks")
    path = folder / f"{name}.png"
    write_mask(path, read_mask(path), {"stage": "seg_mask", "photograph_digest": "another's"})
    with pytest.raises(InputError, match="1 of 5 photographs have been replaced since the masks"):
        main(parse_args([*command, flag, str(folder), "--results", str(tmp_path)]))
    assert not (tmp_path / "seg").exists()


def _mask_folder(pets_root, folder):
    shutil.copytree(pets_root / MASK_DIR, folder)
    return folder, load_ids(pets_root, "train")[0]


def test_wrong_mask_folders_are_named(command, pets_root, tmp_path):
    def train(folder):
        main(
            parse_args(
                [*command, "--results", str(tmp_path / "results"), "--mask_dir", str(folder)]
            )
        )

    with pytest.raises(
        InputError,
        match=r"5 of 5 images have no mask in --mask_dir .*; it holds CAM files: make masks of "
        r"them, make_masks\.py",
    ):
        train(write_seeds(pets_root, tmp_path / "cam"))
    missing, name = _mask_folder(pets_root, tmp_path / "missing")
    (missing / f"{name}.png").unlink()
    with pytest.raises(
        InputError,
        match=rf"1 of 5 images have no mask in --mask_dir .*missing, first {name}; give the folder",
    ):
        train(missing)
    with pytest.raises(InputError, match=r"--mask_dir not found: nowhere; .* make_masks\.py"):
        train("nowhere")
    other, name = _mask_folder(pets_root, tmp_path / "other")
    write_mask(
        other / f"{name}.png",
        read_mask(other / f"{name}.png"),
        {"stage": "irn_mask", "classes": ["bus"]},
    )
    with pytest.raises(
        InputError, match=rf"{name}\.png was made for other classes than cat, dog, owl"
    ):
        train(other)
    values, name = _mask_folder(pets_root, tmp_path / "values")
    write_mask(values / f"{name}.png", np.full_like(read_mask(values / f"{name}.png"), 9))
    with pytest.raises(
        InputError,
        match=rf"{name}\.png has the value 9; the class list has values up to 3, and 255 is "
        r"ignored",
    ):
        train(values)
    size, name = _mask_folder(pets_root, tmp_path / "size")
    write_mask(size / f"{name}.png", np.zeros((9, 9), dtype=np.uint8))
    with pytest.raises(InputError, match=rf"{name}\.png is of size \(9, 9\), its image \(60, 80\)"):
        train(size)
