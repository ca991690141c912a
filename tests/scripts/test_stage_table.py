"""The stage table through its command line: every number is that of evaluation_cam.py."""

import json
import shutil

import numpy as np
import pytest

from stage_table import main, parse_args
from tests.conftest import PETS
from tests.seeds import write_seeds
from tool.errors import InputError
from tool.expand.crf import CRF_SETTINGS, SeedCrf
from tool.expand.seed import CRF_THRESHOLD
from tool.file.images import read_mask, write_mask
from tool.mask_values import voc_palette
from voc12.constants import MASK_DIR
from voc12.evaluation import THRESHOLDS, evaluate_cams, evaluate_masks
from voc12.lists import load_ids


@pytest.fixture(scope="module")
def folders(pets_root, tmp_path_factory):
    """cam_<list> with seeds, irn_<list> with masks: the ground truth moved by three pixels."""
    root = tmp_path_factory.mktemp("stages")
    for name in ("train", "val"):
        write_seeds(pets_root, root / f"cam_{name}", lists=(name,))
        for image in load_ids(pets_root, name):
            mask = np.roll(read_mask(pets_root / MASK_DIR / f"{image}.png"), 3, axis=1)
            write_mask(
                root / f"irn_{name}" / f"{image}.png",
                np.where(mask == 255, 0, mask),
                {"stage": "irn_mask"},
            )
    return root


def _table(root, folders, out, *flags):
    arguments = [
        "--voc12_root",
        root,
        "--seed_dir",
        f"{folders}/cam_{{list}}",
        "--num_workers",
        1,
        "--out",
        out,
        *flags,
    ]
    main(parse_args([str(value) for value in arguments]))
    return out.with_suffix(".md").read_text(), json.loads(out.with_suffix(".json").read_text())


def test_table_of_two_lists(pets_root, folders, tmp_path, capsys):
    text, numbers = _table(
        pets_root, folders, tmp_path / "out" / "table", "--irn_dir", f"{folders}/irn_{{list}}"
    )
    assert capsys.readouterr().out.startswith(text)
    lines = text.splitlines()
    assert lines[0] == "| mIoU (%), threshold | train (5 images) | val (2 images) |"
    assert lines[1] == "|---|---|---|"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| seed", "| seed + CRF", "| IRN mask"]
    assert [(row["row"], row["list"]) for row in numbers["rows"]] == [
        (row, name) for name in ("train", "val") for row in ("seed", "seed + CRF", "IRN mask")
    ]
    cells = {(row["row"], row["list"]): row for row in numbers["rows"]}
    for column, name in enumerate(("train", "val"), start=1):
        ids, gt_dir = load_ids(pets_root, name), pets_root / MASK_DIR
        seeds = evaluate_cams(ids, folders / f"cam_{name}", gt_dir, PETS)
        best = seeds.best()
        crf = SeedCrf(CRF_SETTINGS["seam"], bg_threshold=THRESHOLDS[best])
        refined = evaluate_cams(
            ids,
            folders / f"cam_{name}",
            gt_dir,
            PETS,
            (CRF_THRESHOLD,),
            crf=crf,
            voc12_root=pets_root,
        )
        masks = evaluate_masks(ids, folders / f"irn_{name}", gt_dir, PETS)
        for line, stage, evaluation in zip(
            lines[2:], ("seed", "seed + CRF", "IRN mask"), (seeds, refined, masks), strict=True
        ):
            miou = evaluation.scores.miou_zero[evaluation.best()]
            assert cells[stage, name]["best_miou"] == miou
            low, high = evaluation.interval(evaluation.best())
            assert cells[stage, name]["best_interval"] == [low, high]
            threshold = (
                f", {evaluation.thresholds[evaluation.best()]:.2f}"
                if evaluation is not masks
                else ""
            )
            assert line.strip("| ").split(" | ")[column] == (
                f"{miou:.2f} [{low:.2f}, {high:.2f}]{threshold}"
            )
        assert [cells[stage, name]["stage"] for stage in ("seed", "seed + CRF", "IRN mask")] == [
            "cam_refined",
            "seed_crf",
            "irn_mask",
        ]


def test_segmentation_has_a_row(pets_root, folders, tmp_path):
    for image in load_ids(pets_root, "val"):
        write_mask(
            tmp_path / "seg" / f"{image}.png",
            read_mask(folders / "irn_val" / f"{image}.png"),
            {"stage": "seg_mask"},
        )
    text, _ = _table(
        pets_root, folders, tmp_path / "table", "--lists", "val", "--seg_dir", str(tmp_path / "seg")
    )
    masks = evaluate_masks(
        load_ids(pets_root, "val"), folders / "irn_val", pets_root / MASK_DIR, PETS
    )
    low, high = masks.interval(0)
    number = f"{masks.scores.miou_zero[0]:.2f} [{low:.2f}, {high:.2f}]"
    assert text.splitlines()[-1] == f"| segmentation | {number} |"


def test_masks_of_another_stage_and_lists_of_one_name_are_refused(pets_root, folders, tmp_path):
    with pytest.raises(
        InputError, match="irn_val holds masks of stage irn_mask, given for the row segmentation"
    ):
        _table(
            pets_root,
            folders,
            tmp_path / "table",
            "--lists",
            "val",
            "--seg_dir",
            f"{folders}/irn_{{list}}",
        )
    with pytest.raises(InputError, match="--lists names val twice"):
        _table(pets_root, folders, tmp_path / "table", "--lists", "val", "val.txt")


def test_missing_masks_of_a_list_are_named(pets_root, folders, tmp_path):
    with pytest.raises(
        InputError, match=r"folder of AffinityNet masks not found: .*aff_train; check --aff_dir"
    ):
        _table(
            pets_root,
            folders,
            tmp_path / "table",
            "--lists",
            "train",
            "--aff_dir",
            f"{folders}/aff_{{list}}",
        )


def test_a_part_of_a_list_is_in_the_whole_lists_folder(pets_root, folders, tmp_path):
    text, numbers = _table(pets_root, folders, tmp_path / "table", "--lists", "train:2", "val")
    assert text.splitlines()[0] == "| mIoU (%), threshold | train:2 (2 images) | val (2 images) |"
    assert numbers["rows"][0]["list"] == "train:2"


def test_colours_of_the_class_list_are_the_masks_and_the_stages(pets_root, folders, tmp_path):
    data = shutil.copytree(pets_root, tmp_path / "data")
    names = (data / "classes.txt").read_text().split()
    (data / "classes.txt").unlink()
    colours = voc_palette()[[2, 3, 1]].tolist()
    lines = [
        f"{name}:{','.join(map(str, colour))}::"
        for name, colour in zip(names, colours, strict=True)
    ]
    (data / "labelmap.txt").write_text("\n".join(lines))
    table = np.arange(256)
    table[1:4] = 2, 3, 1
    for name in load_ids(data, "train"):
        for folder in (data / MASK_DIR, tmp_path / "irn_train"):
            mask = table[read_mask(pets_root / MASK_DIR / f"{name}.png")]
            if folder != data / MASK_DIR:
                mask[mask == 255] = 0
            write_mask(folder / f"{name}.png", mask)
    flags = ("--lists", "train", "--absent", "skip", "--irn_dir", f"{tmp_path}/irn_{{list}}")
    text, _ = _table(data, folders, tmp_path / "table", *flags)
    assert text.splitlines()[-1] == "| IRN mask | 100.00 [100.00, 100.00] |"


def test_mask_values_reach_the_reader_of_the_ground_truth(pets_root, folders, tmp_path):
    with pytest.raises(InputError, match=r"^--mask_values binary is for one class, .* has 3"):
        _table(pets_root, folders, tmp_path / "table", "--mask_values", "binary")
