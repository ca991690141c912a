"""Tables at toy size: what is missing is run, a stop costs nothing, tables share sessions, print
stands beside ours.
"""

import csv
import importlib
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import reproduce
from experiments.presets import PRESETS
from experiments.road import Road, changed_settings
from experiments.tables import (
    CEILING,
    backbones_lines,
    consensus_lines,
    seeds_lines,
    segmentation_lines,
)
from flags import cpn_training, seg_training
from tool.errors import InputError
from tool.file.atomic import read_json_lines, write_json
from tool.run.steps import RECORD

NETWORK = "--backbone resnet10t --weights none --device cpu"


def _write_lists(voc12_root):
    lists = Path(voc12_root) / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    for name, images in (("train", "abcd"), ("train_aug", "abcd"), ("val", "ef")):
        (lists / f"{name}.txt").write_text("\n".join(images))


class Machine:
    """Runs commands in this process and counts them; fails at a script when told.

    pretend: read the flags and write what stands for the result, numbers that depend on the seed;
    else run the script
    """

    def __init__(self, pretend):
        self.ran, self.failing, self.pretend = [], None, pretend

    def __call__(self, words):
        name = words[1] if words[0] == "-m" else words[0].removesuffix(".py")
        self.ran.append(name)
        if name == self.failing:
            return 2
        module = importlib.import_module(
            "voc12.sample.__main__" if name == "voc12.sample" else name
        )
        args = module.parse_args(list(words[2 if words[0] == "-m" else 1 :]))
        if self.pretend:
            self._leave_output(args)
        else:
            module.main(args)
        return 0

    @staticmethod
    def _leave_output(args):
        if hasattr(args, "session_name"):
            folder = Path(args.results) / args.session_name
            (folder / "settings.json").write_text(json.dumps(vars(args)))
            (folder / f"{args.session_name}.pth").touch()
        elif hasattr(args, "json"):
            miou = 50 + 2 * ("seed1" in args.json) + ("cpn_" in args.json)
            numbers = {
                "best_miou": miou,
                "best_threshold": 0.5,
                "images": {"train": 4, "val": 2, "val:1": 1}[args.list],
            }
            numbers |= {
                "iou": dict.fromkeys("abc"),
                "absent_classes": args.absent,
                "classes_that_occur_nowhere": ["c"],
            }
            numbers["crf"] = {"bg_threshold": 0.45} if args.crf else None
            write_json(
                args.json,
                numbers
                | ({"auto_miou": miou - 1, "auto_threshold": 0.4} if args.t == "auto" else {}),
            )
        else:
            folders = [getattr(args, name, None) for name in ("out", "out_cam", "out_mask")]
            for folder in filter(None, folders):
                Path(folder).mkdir(exist_ok=True)
            if hasattr(args, "out"):
                _write_lists(args.out)


@pytest.fixture
def sample(tmp_path_factory):
    """A folder for a tiny sample."""
    return tmp_path_factory.mktemp("sample") / "data"


@pytest.fixture(params=[True], ids=["pretend"])
def machine(request, sample, monkeypatch):
    tiny = replace(
        PRESETS["sample"],
        voc12_root=str(sample),
        prepare="--images 4 --val_images 2 --size 96",
        train=f"{NETWORK} --crop_size 64 --resize_long 64 96 --batch_size 4 --max_epoches 1 "
        "--val_list none --patch grid --grid_sizes 16",
        scales="--scales 1.0",
        irn=f"{NETWORK.removesuffix(' --device cpu')} --crop_size 80 --batch_size 4 --max_epoches "
        "1",
        seg=f"{NETWORK.removesuffix(' --device cpu')} --arch deeplabv3plus --head_channels 16 "
        "--crop_size 64 --batch_size 2 --max_iterations 1",
        aff=f"{NETWORK.removesuffix(' --device cpu')} --crop_size 64 --batch_size 4 --max_epoches "
        "1",
        consensus_cam="--lr 0.001",
        consensus_seg="--scale 0.6 1.0 --max_iterations 2",
        consensus_test="--scales 1.0 --crf irn",
    )
    monkeypatch.setitem(PRESETS, "sample", tiny)
    machine = Machine(request.param)
    monkeypatch.setattr(reproduce, "execute", machine)
    return machine


def _make(folder: Path, table: str, *flags: str) -> list[dict]:
    """The rows of the CSV."""
    words = [
        "--table",
        table,
        "--results",
        str(folder / "results"),
        "--out",
        str(folder / "tables"),
        "--num_workers",
        "0",
    ]
    args = reproduce.parse_args([*words, *flags])
    reproduce.main(args)
    return list(csv.DictReader((folder / "tables" / f"{reproduce.table_name(args)}.csv").open()))


def test_seeds_table(machine, tmp_path, capsys):
    machine.failing = "infer_cam"
    with pytest.raises(InputError, match=r"`python infer_cam.py .*` failed with exit status 2"):
        _make(tmp_path, "seeds", "--seeds", "0", "1")
    assert machine.ran == ["voc12.sample", "train_cpn", "infer_cam"]

    machine.failing = None
    machine.ran.clear()
    rows = _make(tmp_path, "seeds", "--seeds", "0", "1")
    # four settings, two seeds, but the one before the failure
    assert machine.ran.count("train_cpn") == 7
    assert machine.ran.count("infer_cam") == 16
    assert machine.ran.count("evaluation_cam") == 32
    keys = [(row["setting"], row["stage"], row["split"]) for row in rows]
    assert keys[:4] == [
        ("CAM", stage, split) for split in ("train", "val") for stage in ("seed", "seed + CRF")
    ]
    assert len(set(keys)) == 16
    assert keys[-1] == ("CPN, --preset best", "seed + CRF", "val")
    published = {
        key: float(row["published"])
        for key, row in zip(keys, rows, strict=True)
        if row["published"]
    }
    assert published["CPN", "seed", "train"] == 57.41
    assert published["SEAM", "seed + CRF", "train"] == 56.83
    assert ("CPN", "seed + CRF", "val") not in published
    for row in rows:
        values = [float(value) for value in row["miou_by_seed"].split()]
        assert float(row["miou"]) == pytest.approx(sum(values) / 2)
        assert float(row["std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert row["images"] == {"train": "4", "val": "2"}[row["split"]]
        assert float(row["seconds"]) > 0
        assert row["commits"]
    numbers = sorted((tmp_path / "results").glob("cpn_seed1_*/cam_*_val_*.json"))
    assert len(numbers) == 4  # as released and --preset best, with CRF and without
    assert rows[10]["miou_by_seed"].split() == ["51", "53"]
    assert rows[10]["auto_miou_by_seed"].split() == ["50", "52"]
    assert rows[11]["auto_miou_by_seed"] == ""  # after the CRF there is no threshold left to choose
    assert rows[11]["threshold_by_seed"].split() == ["0.45", "0.45"]  # its background's score
    assert {row["classes"] for row in rows} == {"2"}
    text = (tmp_path / "tables" / "seeds_sample.md").read_text()
    assert text in capsys.readouterr().out
    assert "Unfinished" not in text
    assert (
        "CAM networks: the released settings, train_cpn.py's defaults, but for val_list none, "
        "crop_size 64, resize_long 64 96, backbone" in text
    )
    assert (tmp_path / "tables" / "seeds_sample.html").read_text().count("python train_cpn.py") == 8

    before = (tmp_path / "tables" / "seeds_sample.csv").read_bytes()
    machine.ran.clear()
    _make(tmp_path, "seeds", "--seeds", "0", "1")
    assert machine.ran == []
    assert (tmp_path / "tables" / "seeds_sample.csv").read_bytes() == before

    # The full network of the tables of losses and modules is the CPN above.
    rows = _make(tmp_path, "prcm", "--seeds", "0")
    assert machine.ran.count("train_cpn") == 6  # the plain CAM is there as well
    assert {row["setting"]: row["published"] for row in rows if row["published"]} == {
        "PCM + PRCM (CPN)": "57.59"
    }
    assert rows[3]["setting"] == "PCM + PRCM (CPN)"
    assert [row["setting"] for row in rows[5:]] == [
        *(
            f"CPN's weights, {name}"
            for name in ("none", "PCM", "PRCM", "PCM + PRCM, keys transposed")
        ),
        "plain CAM, PCM untrained",
        "SEAM, PCM untrained",
        "CPN, PCM + PRCM untrained",
    ]
    machine.ran.clear()
    rows = _make(tmp_path, "losses", "--seeds", "0")
    assert machine.ran.count("train_cpn") == 3  # PCM alone is in the table before
    settings = [
        json.loads(path.read_text())
        for path in (tmp_path / "results").glob("cpn_seed0_*/settings.json")
    ]
    weights = [found["loss_weights"] for found in settings]
    assert [["loss_tcp", 0.0], ["loss_cpcr", 0.0]] in weights
    assert [["loss_cpcr", 0.0]] in weights


@pytest.mark.parametrize("machine", [False], indirect=True, ids=["real"])
def test_pseudo_table(machine, tmp_path):
    rows = _make(tmp_path, "pseudo", "--seeds", "3")
    assert [row["stage"] for row in rows] == 2 * [
        "seed",
        "seed + CRF",
        "AffinityNet mask",
        "IRN mask",
    ]
    assert [row["split"] for row in rows] == 4 * ["train"] + 4 * ["val"]
    assert float(rows[0]["auto_miou_by_seed"]) <= float(rows[0]["miou"])
    assert [bool(row["threshold_by_seed"]) for row in rows] == 2 * [True, True, False, True]
    assert float(rows[3]["auto_miou_by_seed"]) <= float(rows[3]["miou"])
    assert (
        machine.ran.count("train_cpn")
        == machine.ran.count("train_irn")
        == machine.ran.count("train_aff")
        == 1
    )
    assert len(list((tmp_path / "results").glob("irn_seed3_*/walk/*.npz"))) == 4 + 2
    for row in rows:
        assert float(row["miou_low"]) <= float(row["miou_high"])
        assert bool(row["auto_miou_low"]) == bool(row["auto_miou_by_seed"])
    numbers = next((tmp_path / "results").glob("aff_seed3_*/mask_*_val_*.json"))
    interval = json.loads(numbers.read_text())["best_interval"]
    assert [float(rows[6][f"miou_{end}"]) for end in ("low", "high")] == pytest.approx(interval)
    with (tmp_path / "tables" / "pseudo_sample_differences.csv").open() as file:
        differences = list(csv.DictReader(file))
    stages = ("seed + CRF", "AffinityNet mask", "IRN mask")
    assert [(line["row"], line["less"]) for line in differences] == [
        (f"CPN, {stage}, {split}", f"CPN, seed, {split}")
        for split in ("train", "val")
        for stage in stages
    ]
    for line in differences:
        ours, theirs = (
            next(row for row in rows if f"CPN, {row['stage']}, {row['split']}" == line[name])
            for name in ("row", "less")
        )
        if "AffinityNet" in line["row"]:  # masks, made without real ones
            points = float(ours["miou"]) - float(theirs["auto_miou_by_seed"])
            assert (line["points"], line["low"]) == ("", "")
            assert float(line["auto_points"]) == pytest.approx(points, abs=1e-9)
            continue
        points = float(ours["miou"]) - float(theirs["miou"])
        assert float(line["points"]) == pytest.approx(points, abs=1e-9)
    records = next((tmp_path / "results").glob("cpn_seed3_*")) / RECORD
    assert all(json.loads(line)["status"] == 0 for line in records.read_text().splitlines())


def test_segmentation_table(machine, tmp_path):
    _make(tmp_path, "pseudo", "--seeds", "3")
    assert "make_masks" not in machine.ran
    machine.ran.clear()
    rows = _make(tmp_path, "segmentation", "--seeds", "3")
    assert machine.ran.count("make_masks") == 1
    assert machine.ran.count("train_seg") == 3
    assert machine.ran.count("infer_seg") == machine.ran.count("evaluation_cam") == 6
    assert not {"train_cpn", "train_irn", "train_aff"} & set(machine.ran)
    published = {row["setting"]: row["published"] for row in rows if row["published"]}
    assert published == {"CPN, IRN masks": "67.8", "real masks (ceiling)": "78.1"}
    assert all(row["split"] == "val" and row["images"] == "2" for row in rows)


CONSENSUS = ("seed", "seed + consensus", "seed + consensus + CRF", "seed + consensus + IRN")
CORRECTED = "segmentation within labels + CRF"


@pytest.mark.parametrize("machine", [False], indirect=True, ids=["real"])
def test_consensus_table(machine, tmp_path, capsys):
    rows = _make(tmp_path, "consensus", "--seeds", "3", "--rows", "^(CAM|real masks)")
    done = [row for row in rows if row["miou"]]
    cam, model = "CAM, PCM untrained", ("segmentation + CRF", "val")
    assert [(row["setting"], row["stage"], row["split"]) for row in done] == [
        *((cam, stage, split) for split in ("train", "val") for stage in CONSENSUS),
        *((cam, CORRECTED, split) for split in ("train", "val")),
        (cam, *model),
        ("real masks (ceiling)", *model),
    ]
    # masks have no threshold left
    chosen = [bool(row["threshold_by_seed"]) for row in done]
    assert chosen == 2 * [True, True, False, True] + 4 * [False]
    assert [machine.ran.count(f"train_{name}") for name in ("cpn", "irn", "seg")] == [1, 1, 2]
    # those that teach, and those of train and val
    assert machine.ran.count("consensus_cam") == machine.ran.count("make_crf") == 3
    (session,) = (tmp_path / "results").glob("cam_seed3_*/")
    assert len(list(session.glob("agreed_cam_*/*.npz"))) == 4 + 2
    assert {path.name.rpartition("_")[2] for path in session.glob("mask_agreed_*/")} == {
        "aug",
        "train",
        "val",
    }
    learnt = [
        seg_training.parse_args(shlex.split(read_json_lines(path)[0]["command"])[2:])
        for path in (tmp_path / "results").glob(f"seg_seed3_*/{RECORD}")
    ]
    assert {args.weights for args in learnt} == {str(session / f"{session.name}.pth")}
    assert {tuple(args.scale) for args in learnt} == {(0.6, 1.0)}
    folders = sorted(Path(args.mask_dir).name for args in learnt)
    assert folders[0] == "SegmentationClassAug"
    assert folders[1].startswith("mask_agreed_cam_")
    assert folders[1].endswith("_train_aug")
    with (tmp_path / "tables" / "consensus_sample_differences.csv").open() as file:
        differences = [(line["row"], line["less"]) for line in csv.DictReader(file)]
    _, agreed, masks, irn = (f"{cam}, {stage}, val" for stage in CONSENSUS)
    assert differences[4:] == [
        (agreed, f"{cam}, seed, val"),
        (masks, agreed),
        (irn, agreed),
        (irn, masks),
        (f"{cam}, {CORRECTED}, train", masks.replace("val", "train")),
        (f"{cam}, {CORRECTED}, val", masks),
        (f"{cam}, segmentation + CRF, val", masks),
        ("real masks (ceiling), segmentation + CRF, val", f"{cam}, segmentation + CRF, val"),
    ]
    said = capsys.readouterr().out
    assert "Over the settings of the other tables, the plain CAM: --lr 0.001; train_seg.py" in said


def test_consensus_takes_the_networks_of_other_tables(machine, tmp_path):
    _make(tmp_path, "seeds", "--seeds", "0")
    machine.ran.clear()
    rows = _make(tmp_path, "consensus", "--seeds", "0")
    assert all(row["miou"] for row in rows)
    assert len(rows) == 3 * (2 * len(CONSENSUS) + 3) + 1
    assert machine.ran.count("train_cpn") == 1  # the plain CAM, at rates of its own
    assert machine.ran.count("train_irn") == 3
    assert machine.ran.count("train_seg") == 4
    published = {
        (row["setting"], row["split"]): row["published"] for row in rows if row["published"]
    }
    assert published == {
        ("SEAM", "train"): "55.41",
        ("CPN", "train"): "57.41",
        ("CPN", "val"): "57.59",
    }


def test_consensus_at_the_papers_setting_trains_nothing_in_another_way(tmp_path):
    road = Road(PRESETS["voc12"], tmp_path, 0, "cpu")
    lines = {line.name: line for line in consensus_lines(road, None)}
    assert {other for line in lines.values() for other in line.against} <= set(lines)
    chain = list(lines["CAM, PCM untrained, segmentation + CRF, val"].evaluate(0).chain())
    assert chain[0] == road.train(("--method", "cam"), 0)
    assert [step.script for step in chain] == [
        "train_cpn.py",
        "infer_cam.py",
        "consensus_cam.py",
        "make_crf.py",
        "train_seg.py",
        "infer_seg.py",
        "evaluation_cam.py",
    ]
    args = seg_training.parse_args(list(chain[4].flags))
    assert (args.arch, args.backbone, args.crop_size) == ("deeplabv1", "resnet38", 448)
    assert args.weights == str(chain[0].output)
    assert road.segmentation(None, 0).needs[0].output not in [
        step.output for step in lines[f"{CEILING}, segmentation + CRF, val"].evaluate(0).chain()
    ]


def test_flags_for_all_trainings_win_over_those_of_the_plain_cam(machine, tmp_path):
    words = ["--seeds", "0", "--rows", "^CAM.*seed, val$", "--train_flags=--lr 3"]
    _make(tmp_path, "consensus", *words)
    (path,) = (tmp_path / "results").glob("cam_seed0_*/settings.json")
    assert json.loads(path.read_text())["lr"] == 3


def test_the_model_has_the_backbone_that_it_starts_from(tmp_path):
    preset = PRESETS["photos"]
    preset = replace(preset, voc12_root="photos", train=f"{preset.train} --backbone resnet50")
    road = Road(preset, tmp_path, 0, "cpu")
    trained = road.agreed_segmentation((), "val", 0).needs[0].needs[0]
    assert seg_training.parse_args(list(trained.flags)).backbone == "resnet50"


def test_dry_run_writes_nothing(machine, tmp_path, capsys):
    words = [
        "--table",
        "patches",
        "--data",
        "voc12",
        "--seeds",
        "0",
        "--dry_run",
        "--results",
        str(tmp_path / "results"),
    ]
    reproduce.main(reproduce.parse_args([*words, "--out", str(tmp_path / "tables")]))
    assert machine.ran == []
    assert list(tmp_path.iterdir()) == []
    commands = capsys.readouterr().out.splitlines()
    trainings = [line for line in commands if line.startswith("python train_cpn.py")]
    assert any("--patch grid --grid_sizes 14 28 56 112" in line for line in trainings)
    assert any("--patch pixel" in line for line in trainings)
    assert len(trainings) == len(set(trainings)) > 10


def test_names_follow_from_what_changes_a_result(tmp_path):
    def road(**changes):
        preset = replace(PRESETS["voc12"], **changes)
        return Road(preset, tmp_path, 0, "cpu")

    base = road().train((), 0).output
    assert (
        road().train(("--method", "cpn", "--patch", "superpixel", "--num_workers", "3"), 0).output
        == base
    )
    assert road(train="--val_list none --log_every 5").train((), 0).output == base
    assert road().train((), 1).output != base
    assert road().train(("--superpixels", "301"), 0).output != base
    assert road(voc12_root="elsewhere").train((), 0).output != base


def test_rows_go_on_without_what_failed(machine, tmp_path, capsys):
    machine.failing = "train_aff"
    message = r"2 commands failed, whose rows .* again, the first: `python train_aff.py .* status 2"
    with pytest.raises(InputError, match=message):
        _make(tmp_path, "pseudo", "--seeds", "0", "1")
    assert machine.ran.count("train_aff") == 2  # once a seed, though two rows of each need it
    assert capsys.readouterr().err.count("rows without it go on") == 4
    text = (tmp_path / "tables" / "pseudo_sample.md").read_text()
    assert text.count("Failed: `python train_aff.py ") == 2
    assert "Unfinished: 12 of 16 evaluations are there." in text
    machine.failing = None
    machine.ran.clear()
    rows = _make(tmp_path, "pseudo", "--seeds", "0", "1")
    assert machine.ran.count("train_aff") == 2
    assert "train_irn" not in machine.ran
    assert all(len(row["miou_by_seed"].split()) == 2 for row in rows)


def test_rows(machine, tmp_path):
    rows = _make(tmp_path, "seeds", "--seeds", "0", "--rows", "^CPN.*, seed, val$")
    done = [(row["setting"], row["stage"], row["split"]) for row in rows if row["miou"]]
    assert done == [("CPN", "seed", "val"), ("CPN, --preset best", "seed", "val")]
    assert len(rows) == 16
    with pytest.raises(InputError, match="--rows SEEM is found in no row of the table seeds"):
        _make(tmp_path, "seeds", "--rows", "SEEM")
    rows = _make(tmp_path, "seeds", "--seeds", "0", "--rows", "^CAM, seed, val$")
    assert sum(bool(row["miou"]) for row in rows) == 3, "a run of other rows lost the finished ones"


def test_flags_for_all_trainings_may_not_change_what_rows_say(machine, tmp_path):
    with pytest.raises(
        InputError,
        match="--train_flags change --refinement, in which rows of the table prcm differ",
    ):
        _make(tmp_path, "prcm", "--train_flags=--refinement pcm")
    with pytest.raises(
        InputError,
        match="--train_flags change --loss_weights, in which rows of the table losses differ",
    ):
        _make(tmp_path, "losses", "--train_flags=--loss_weights loss_tcp=0")
    with pytest.raises(InputError, match="--backbones is for the table backbones, not for seeds"):
        _make(tmp_path, "seeds", "--backbones", "resnet50")
    for flag, value, hint in (
        ("voc12_root", "other", "--voc12_root of reproduce.py is for that"),
        ("seed", "7", "--seeds of reproduce.py is for that"),
        ("train_list", "val", "leave it out"),
        ("save_format", "safetensors", "leave it out"),
    ):
        text = f"--train_flags change --{flag}, which the other stages would not know of; {hint}"
        with pytest.raises(InputError, match=f"^{text}$"):
            _make(tmp_path, "seeds", f"--train_flags=--{flag} {value}")
    assert machine.ran == []
    words = [
        "--table",
        "losses",
        "--seeds",
        "0",
        "--results",
        str(tmp_path / "r"),
        "--out",
        str(tmp_path / "t"),
        "--num_workers",
        "0",
    ]
    reproduce.main(reproduce.parse_args([*words, "--train_flags=--refinement_factor 0"]))
    # other flags for all rows make another table
    (path,) = (tmp_path / "t").glob("losses_sample_????????.md")
    assert "loss_cpcr, whose gradients reach their layers alone, trains nothing" in path.read_text()


def test_a_stop_while_the_data_are_made_is_gone_on_from(machine, sample, tmp_path):
    (sample / "JPEGImages").mkdir(parents=True)  # voc12.sample writes its lists last
    _make(tmp_path, "seeds", "--seeds", "0", "--rows", "^CAM, seed, val$")
    assert machine.ran[0] == "voc12.sample"


def test_numbers_in_print_are_those_of_the_same_training():
    preset = PRESETS["voc12"]
    road = Road(preset, Path("results"), 0, "cpu")
    args = reproduce.parse_args(["--table", "backbones", "--data", "voc12"])
    published = reproduce.published_numbers(road, args, 0)
    found = {
        line.setting: published.get(line.evaluate(0).output) for line in backbones_lines(road, args)
    }
    assert found["CPN, resnet38"] == 57.41
    assert found["CAM, resnet38"] == 48.0
    assert found["CPN, resnet50:8"] is None


def test_another_rule_for_lengths_is_another_session(monkeypatch):
    def sessions():
        presets = [replace(PRESETS["photos"], train=flags) for flags in lengths]
        return [Road(one, Path("results"), 0, "cpu").train((), 0).folder for one in presets]

    lengths = ("--max_iterations auto", "--max_iterations 500", "--max_epoches 2")
    before = sessions()
    monkeypatch.setattr(cpn_training, "AUTO_RULE", (3, 240, 500))
    after = sessions()
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_a_flag_that_a_method_does_not_read_makes_no_other_session():
    road = Road(PRESETS["photos"], Path("results"), 0, "cpu")

    def sessions(*flags):
        return {
            method: road.train(("--method", method, *flags), 0).folder.name
            for method in ("cam", "seam", "cpn")
        }

    usual = sessions()
    for flags, readers in (
        (("--seam_scale", "0.5"), ["seam"]),
        (("--grid_sizes", "20"), ["cpn"]),
        (("--superpixels", "20"), []),  # of another --patch
        (("--draw", "exact"), []),
        (("--lr", "0.5"), ["cam", "seam", "cpn"]),
    ):
        other = sessions(*flags)
        assert [method for method in usual if usual[method] != other[method]] == readers


def test_every_flag_of_one_method_is_a_flag():
    readers = [names for one in cpn_training.READ_WITH.values() for names in one.values()]
    names = {name for names in readers for name in names}
    assert names | set(cpn_training.READ_WITH) <= set(vars(cpn_training.parse_args([])))


def test_backbones_stand_against_their_plain_cam_and_the_first():
    road = Road(PRESETS["photos"], Path("results"), 0, "cpu")
    names = ("efficientnet_lite0", "efficientnet_lite2", "efficientnet_lite2:8")
    args = reproduce.parse_args(["--table", "backbones", "--data", "photos", "--backbones", *names])
    against = {line.name: line.against for line in backbones_lines(road, args)}
    row = "{}, {}, seed, val".format
    first = {method: row(method, names[0]) for method in ("CAM", "CPN")}
    assert against[first["CAM"]] == ()
    assert against[first["CPN"]] == (first["CAM"],)
    for name in names[1:]:
        assert against[row("CAM", name)] == (first["CAM"],)
        assert against[row("CPN", name)] == (row("CAM", name), first["CPN"])


def test_coco14_has_its_own_numbers_in_print():
    road = Road(PRESETS["coco14"], Path("results"), 0, "cpu")
    args = reproduce.parse_args(["--table", "segmentation", "--data", "coco14"])
    published = reproduce.published_numbers(road, args, 0)
    lines = segmentation_lines(road, args)
    found = {line.name: published.get(line.evaluate(0).output) for line in lines}
    assert {name: number for name, number in found.items() if number} == {
        "SEAM, AffinityNet masks, segmentation + CRF, val": 31.9,
        "CAM, IRN masks, segmentation + CRF, val": 41.4,
    }
    assert "CPN, IRN masks, segmentation + CRF, val" in found
    (seam,) = [line for line in lines if line.name.startswith("SEAM") and "CRF" in line.name]
    step, commands = seam.evaluate(0), []
    while step.needs:
        commands.append(step.script)
        step = step.needs[0]
    assert commands == ["evaluation_cam.py", "infer_seg.py", "train_seg.py", "infer_aff.py"] + [
        "train_aff.py",
        "infer_cam.py",
    ]
    assert step.script == "train_cpn.py"
    assert " ".join(step.flags).count("--method seam") == 1


def test_rows_that_are_no_expression(capsys):
    with pytest.raises(SystemExit):
        reproduce.parse_args(["--table", "seeds", "--rows", "CPN ("])
    assert "'CPN (' is no regular expression" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["sample", "photos"])
def test_the_best_preset_needs_a_training_of_its_own(data):
    # the sample's flags win over those of --preset best, the photographs have another preset
    road = Road(replace(PRESETS[data], voc12_root="data"), Path("results"), 0, "cpu")
    assert {line.setting for line in seeds_lines(road, None)} == {"CAM", "SEAM", "CPN"}


def test_other_flags_are_other_numbers(machine, tmp_path, monkeypatch):
    _make(tmp_path, "pseudo", "--seeds", "0", "--rows", "Aff.*val$")
    machine.ran.clear()
    monkeypatch.setitem(PRESETS, "sample", replace(PRESETS["sample"], absent="zero"))
    _make(tmp_path, "pseudo", "--seeds", "0", "--rows", "Aff.*val$")
    assert "evaluation_cam" in machine.ran
    machine.ran.clear()
    monkeypatch.setitem(PRESETS, "sample", replace(PRESETS["sample"], aff_walk="--alpha 2"))
    _make(tmp_path, "pseudo", "--seeds", "0", "--rows", "Aff.*val$")
    assert machine.ran[-2:] == ["infer_aff", "evaluation_cam"]
    assert "train_aff" not in machine.ran
    assert len(list((tmp_path / "results").glob("aff_seed0_*/mask_*/"))) == 2


def test_score_images(machine, tmp_path):
    rows = _make(tmp_path, "prcm", "--seeds", "0", "--score_images", "1")
    assert {row["images"] for row in rows} == {"1"}
    assert len(list((tmp_path / "results").glob("*_seed0_*/cam_*_val_1_*.json"))) == 12


def test_lists_are_read_before_anything_runs(machine, tmp_path):
    _write_lists(PRESETS["sample"].voc12_root)
    with pytest.raises(InputError, match="val:3 asks for 3 images, the list val has 2"):
        _make(tmp_path, "prcm", "--seeds", "0", "--score_images", "3")
    assert machine.ran == []


@pytest.mark.parametrize("data", ["photos", "photos20"])
def test_photos_need_a_root(data):
    with pytest.raises(InputError, match=f"--data {data} needs --voc12_root"):
        reproduce.main(reproduce.parse_args(["--table", "seeds", "--data", data]))


def test_settings_of_a_table_are_those_in_force():
    """A flag after another replaces it, and a --preset stands for what it sets."""
    flags = [
        "--crop_size",
        "224",
        "--crop_size",
        "160",
        "--preset",
        "best",
        "--loss_weights",
        "loss_tcp=0",
    ]
    found = changed_settings(cpn_training.parse_args, flags)
    text = reproduce.settings_text(found)
    assert "crop_size 160" in text
    assert "224" not in text
    assert "refinement_factor 0" in text
    assert "loss_weights loss_tcp=0" in text
    assert "preset" not in text


def test_tables_of_two_data_sets_are_two(machine, sample, tmp_path):
    _make(tmp_path, "seeds", "--seeds", "0", "--rows", "CAM, seed, val")
    own = tmp_path / "own"
    _write_lists(own)
    args = reproduce.parse_args(["--table", "seeds", "--voc12_root", str(own)])
    assert reproduce.table_name(args) != "seeds_sample"
    _make(tmp_path, "seeds", "--seeds", "0", "--rows", "CAM, seed, val", "--voc12_root", str(own))
    ran = len(machine.ran)
    _make(tmp_path, "seeds", "--seeds", "0", "--rows", "CAM, seed, val", "--voc12_root", f"{own}/")
    assert len(machine.ran) == ran  # the same data, as a shell completes it
    texts = {path.read_text() for path in (tmp_path / "tables").glob("*.md")}
    assert len(texts) == 2
    for root in (sample, own):
        assert any(
            f"{root}: trained on train_aug (4), scored as train train (4)" in t for t in texts
        )
