"""Make a table of the paper: run whatever stages are missing, and set our numbers beside the published ones.

    python reproduce.py --table seeds --data sample --seeds 0 1 2
    python reproduce.py --table losses --data photos --voc12_root PHOTOS --seeds 0 1
    python reproduce.py --table seeds --data voc12 --seeds 0 1 2 --dry_run

Every stage is a command of this repository and is printed before it runs. Sessions go to <results>/<name>, the name made of the
settings, so tables that share a training share its session, and the same command continues after a stop. The table is written after
every evaluation to <out>/<table>_<data>.md, .csv and .html (one file that opens without a network); --train_flags, --score_images and
--backbones add a digest to the name. It shows the seeds asked for.

Tables: seeds (CAM, SEAM and CPN, with and without CRF), losses, patches, prcm, backbones, pseudo (CRF, AffinityNet, IRN),
segmentation.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import demo
import train_aff
import train_cpn
import train_irn
import train_seg
from tool.errors import InputError, run_script
from tool.files import atomic_write, digest
from tool.flags import DEFAULT_WORKERS, non_negative_int, positive_int, seed_number
from tool.result_table import LEGEND, Measurement, Row, csv_text, html, markdown
from tool.steps import Runner, Step, commits, execute, seconds
from tool.trainer import FREE_SETTINGS
from voc12.constants import LIST_DIR, MASK_DIR
from voc12.lists import load_ids

RESULTS = "results"
OUT = "results/tables"


@dataclass(frozen=True)
class Preset:
    """Settings of one data set; flags as one types them.

    voc12_root: folder, None if it must be given
    prepare:    flags of voc12.sample that make the data set, None if it is the user's
    train_list: images whose labels train
    splits:     name -> list with masks; ablations look at ablation_split
    train, irn, aff, seg: flags of the trainers; scales: flags of CAM inference; aff_walk: of infer_aff.py
    cells:      sets of cell sides that the table of patches tries, pixels; superpixels: counts
    backbones:  NAME or NAME:OUTPUT_STRIDE
    absent:     what a class does that occurs nowhere, as in evaluation_cam.py
    """

    voc12_root: str | None
    prepare: str | None
    train_list: str
    splits: dict[str, str]
    ablation_split: str
    train: str
    scales: str
    irn: str
    aff: str
    seg: str
    superpixels: tuple[int, ...]
    cells: tuple[tuple[int, ...], ...]
    backbones: tuple[str, ...]
    absent: str
    about: str
    aff_walk: str = ""


SAMPLE = demo.parse_args([])
PRESETS = {
    "sample": Preset(
        voc12_root=SAMPLE.data,
        prepare=f"--images {SAMPLE.images} --val_images {SAMPLE.val_images}",
        train_list="train_aug",
        splits={"train": "train", "val": "val"},
        ablation_split="val",
        train=f"{demo.NETWORK} {demo.TRAINING} {demo.START} {demo.PATCHES} --max_epoches {SAMPLE.start_epoches + SAMPLE.max_epoches}",
        scales=demo.SCALES["val"],
        irn=f"{demo.NETWORK} {demo.IRN}",
        aff="--backbone efficientnet_lite0 --crop_size 128 --batch_size 8 --max_epoches 3",
        seg="--backbone efficientnet_lite0 --crop_size 128 --batch_size 8 --max_iterations 1000",
        superpixels=(25, 50, 100, 200),
        cells=((8,), (16,), (32,), (64,), (32, 64), (8, 16, 32, 64)),
        backbones=("efficientnet_lite0", "efficientnet_lite0:8"),
        absent="skip",
        about="the embedded sample data set, settings of demo.py, but each method from ImageNet weights",
    ),
    "photos": Preset(
        voc12_root=None,
        prepare=None,
        train_list="animals_train_aug",
        splits={"train": "animals_train_aug", "val": "animals_val"},
        ablation_split="val",
        train="--backbone efficientnet_lite0 --crop_size 224 --resize_long 256 400 --batch_size 8 --momentum 0.9 --lr 0.005 "
        "--max_epoches 3 --val_list none --patch grid --grid_sizes 56 112",
        scales="--scales 0.5 0.75 1.0",
        # Labels around the best threshold of CPN's maps, 0.53, as the released settings are around a plain CAM's (docs/LOG.md).
        irn="--backbone efficientnet_lite0 --crop_size 256 --batch_size 8 --fg_threshold 0.65 --bg_threshold 0.4",
        aff="--backbone efficientnet_lite0 --crop_size 224 --batch_size 8 --max_epoches 4 --low_alpha 0.6 --high_alpha 3.4",
        aff_walk="--alpha 0.85",
        seg="--arch deeplabv3plus --backbone efficientnet_lite0 --output_stride 32 --head_channels 128 --crop_size 224 --batch_size 8 "
        "--lr 0.002 --max_iterations 300",
        superpixels=(50, 100, 200, 300),
        cells=((14,), (28,), (56,), (112,), (56, 112), (14, 28, 56), (14, 28, 56, 112)),
        backbones=("efficientnet_lite0", "efficientnet_lite0:8"),
        absent="skip",
        about="VOC 2012 photographs of six animal classes (790 train, 200 val)",
    ),
    "voc12": Preset(
        voc12_root=train_cpn.VOC12_ROOT,
        prepare=None,
        train_list="train_aug",
        splits={"train": "train", "val": "val"},
        ablation_split="train",
        train="--val_list none",
        scales="--scales 0.5 1.0 1.5 2.0",
        irn="",
        aff="",
        seg="",
        superpixels=(100, 200, 300, 400, 500),
        cells=((28,), (56,), (112,), (224,), (56, 112), (14, 28, 56, 112), (224, 448)),
        backbones=("resnet38", "resnet50:8", "efficientnet_lite0:8"),
        absent="zero",
        about="VOC 2012",
    ),
}
PRESETS["photos20"] = replace(
    PRESETS["photos"],
    train_list="photos20_train_aug",
    splits={"train": "all20_train_aug", "val": "all20_val"},
    about="VOC 2012 photographs of all 20 classes (1,060 train, of which 311 are scored, 160 val)",
)

# Section 8 of the papers' numbers (CPN table 1 and its references), ResNet38, VOC 2012, one seed each: (setting, stage, split) -> mIoU.
# The plain CAM's is AffinityNet's. The ablation tables are not at hand; they stay empty.
PUBLISHED = {
    ("CAM", "seed", "train"): 48.0,
    ("SEAM", "seed", "train"): 55.41,
    ("SEAM", "seed + CRF", "train"): 56.83,
    ("CPN", "seed", "train"): 57.41,
    ("CPN", "seed", "val"): 57.59,
    ("CPN, IRN masks", "segmentation + CRF", "val"): 67.8,
    ("real masks (ceiling)", "segmentation + CRF", "val"): 78.1,
}
PUBLISHED_NOTE = (
    "*Published: ResNet38, VOC 2012, 21 classes, as the papers and released codes give them, without error bars; empty where nothing is "
    "in print or at hand."
)
PSEUDO_NOTE = (
    "For pseudo masks print has, each from its own CAMs: AffinityNet 61.0 (its code; 58.1 in the README of its first release), SEAM "
    "with AffinityNet 63.61, IRN 66.5 (users: 64.9 to 66.0)."
)


def regular_expression(text: str) -> re.Pattern[str]:
    """Compile; raises argparse.ArgumentTypeError saying what is wrong with it."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=TABLES, required=True, help="which table")
    parser.add_argument("--data", choices=PRESETS, default="sample", help="settings by data set (default %(default)s)")
    parser.add_argument("--seeds", type=seed_number, nargs="+", default=(0, 1, 2), help="training seeds (default 0 1 2)")
    parser.add_argument(
        "--voc12_root", help="data set folder in VOC layout (default: the preset's; photos and photos20 have none)"
    )
    parser.add_argument(
        "--backbones", nargs="+", metavar="NAME[:STRIDE]", help="rows of the table of backbones (default: the preset's)"
    )
    parser.add_argument(
        "--score_images",
        type=positive_int,
        metavar="N",
        help="score N images of each split, evenly spread over its list, instead of all",
    )
    parser.add_argument(
        "--rows",
        metavar="REGEX",
        type=regular_expression,
        default=re.compile(""),
        help="run only rows whose 'setting, stage, split' it is found in, e.g. 'seed, val$'; the others show what is there (default: "
        "all)",
    )
    parser.add_argument(
        "--train_flags",
        default="",
        metavar="'FLAGS'",
        help="flags that every training of CAM networks gets after the preset's, e.g. '--max_epoches 6 --precision bf16'",
    )
    parser.add_argument("--num_workers", type=non_negative_int, default=DEFAULT_WORKERS, help="processes (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default %(default)s)")
    parser.add_argument("--results", default=RESULTS, help="where sessions go (default %(default)s)")
    parser.add_argument("--out", default=OUT, help="folder for the tables (default %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="print the missing commands and stop")
    return parser.parse_args(argv)


# ============ commands ============
def changed_settings(parse: Callable, flags: Sequence[str]) -> dict[str, Any]:
    """Those of a trainer's settings that flags change from its defaults, and that may change its result."""
    settings, defaults = vars(parse(list(flags))), vars(parse([]))
    free = {*FREE_SETTINGS, "preset"}
    return {key: value for key, value in settings.items() if value != defaults[key] and key not in free}


@dataclass(frozen=True)
class Road:
    """The commands of one data set, from training to evaluation. What a session is called follows from its settings."""

    preset: Preset
    results: Path
    num_workers: int
    device: str

    def _step(self, script: str, flags: Sequence[str], output: Path, folder: Path, *needs: Step) -> Step:
        return Step(script, (*flags, "--num_workers", str(self.num_workers)), output, folder, needs)

    def _data(self) -> tuple[Step, ...]:
        if self.preset.prepare is None:
            return ()
        folder = Path(self.preset.voc12_root)
        return (Step("-m voc12.sample", (*self.preset.prepare.split(), "--out", str(folder)), folder, self.results),)

    def _session(self, parse: Callable, name: str, flags: Sequence[str], made_from: str = "") -> Path:
        """Its folder: a name, and a digest of the flags that differ from the trainer's defaults and may change its result.

        A --preset is no setting but what others default to, so that two ways to say the same share a session.
        """
        return self.results / f"{name}_{digest(changed_settings(parse, flags) | {'from': made_from})}"

    def _trainer(self, script: str, flags: Sequence[str], folder: Path, *needs: Step) -> Step:
        where = ["--session_name", folder.name, "--results", str(self.results), "--device", self.device]
        return self._step(script, [*flags, *where], folder / f"{folder.name}.pth", folder, *needs)

    def train(self, flags: Sequence[str], seed: int) -> Step:
        """Weights of a CAM network; flags over the preset's."""
        flags = ["--train_list", self.preset.train_list, *self.preset.train.split(), *flags, "--seed", str(seed)]
        flags = ["--voc12_root", self.preset.voc12_root, *flags]
        method = train_cpn.parse_args(flags).method
        folder = self._session(train_cpn.parse_args, f"{method}_seed{seed}", flags)
        return self._trainer("train_cpn.py", flags, folder, *self._data())

    def cams(self, weights: Step, image_list: str, *own: str) -> Step:
        """CAM files of a list; all lists of a session share a folder. own: flags of infer_cam.py over the preset's."""
        scales = self.preset.scales.split()
        folder = weights.folder / f"cam_{digest({'scales': scales} | ({'own': own} if own else {}))}"
        flags = [
            "--voc12_root",
            self.preset.voc12_root,
            "--infer_list",
            image_list,
            "--weights",
            str(weights.output),
            *scales,
            *own,
        ]
        flags += ["--out_cam", str(folder), "--device", self.device]
        return self._step("infer_cam.py", flags, folder, weights.folder, weights)

    def evaluate(self, made: Step, split: str, *flags: str) -> Step:
        """Numbers of CAM files or masks on a split, in a file named after the list and a digest of the flags."""
        image_list = self.preset.splits[split]
        how = ["--absent", self.preset.absent, *flags]
        name = f"{made.output.name}_{image_list.replace(':', '_')}_{digest({'flags': how})}.json"
        output = made.output.with_name(name)
        every = ["--voc12_root", self.preset.voc12_root, "--list", image_list, "--predict_dir", str(made.output)]
        return self._step("evaluation_cam.py", [*every, *how, "--json", str(output)], output, made.folder, made)

    def seed(self, flags: Sequence[str], split: str, seed: int, infer: Sequence[str] = ()) -> Step:
        """Numbers of seeds, at the best threshold and at the one chosen without masks. infer: flags of infer_cam.py."""
        return self.evaluate(self.cams(self.train(flags, seed), self.preset.splits[split], *infer), split, "--t", "auto")

    def seed_crf(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of seeds after the dense CRF."""
        cams = self.cams(self.train(flags, seed), self.preset.splits[split])
        return self.evaluate(cams, split, "--crf", "seam")

    def _expansion(
        self, method: str, parse: Callable, own: str, walk: Sequence[str], flags: Sequence[str], image_list: str, seed: int
    ) -> Step:
        """The files that infer_irn.py or infer_aff.py leaves: IRN's maps after the walk, AffinityNet's masks."""
        weights = self.train(flags, seed)
        cams = [self.cams(weights, name) for name in dict.fromkeys((self.preset.train_list, image_list))]
        own_flags = ["--voc12_root", self.preset.voc12_root, "--train_list", self.preset.train_list, *own.split()]
        own_flags += ["--seed", str(seed)]
        folder = self._session(parse, f"{method}_seed{seed}", own_flags, made_from=f"{weights.folder.name}/{cams[0].output.name}")
        cam_dir = ["--cam_dir", str(cams[0].output)]
        trained = self._trainer(f"train_{method}.py", [*own_flags, *cam_dir], folder, cams[0])
        mask_flags = ["--voc12_root", self.preset.voc12_root, "--infer_list", image_list, *cam_dir, *walk]
        mask_dir = folder / f"mask_{digest({'walk': walk})}"
        mask_flags += ["--weights", str(trained.output), "--out_mask", str(mask_dir), "--device", self.device]
        output = folder / "walk" if method == "irn" else mask_dir
        if method == "irn":
            mask_flags += ["--out_cam", str(output)]
        return self._step(f"infer_{method}.py", mask_flags, output, folder, trained, cams[-1])

    def irn_walk(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """CAM files of CPN's seeds after IRN's walk."""
        return self._expansion("irn", train_irn.parse_args, self.preset.irn, (), flags, image_list, seed)

    def irn_masks(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """Pseudo masks of IRN, at a background score chosen without masks: the released one is for a plain CAM."""
        walk, seeds = self.irn_walk(flags, image_list, seed), self.cams(self.train(flags, seed), image_list)
        output = walk.folder / "mask_auto"
        mask_flags = ["--voc12_root", self.preset.voc12_root, "--infer_list", image_list, "--cam_dir", str(walk.output)]
        mask_flags += ["--t", "auto", "--seed_dir", str(seeds.output), "--out_mask", str(output)]
        return self._step("make_masks.py", mask_flags, output, walk.folder, walk)

    def irn_numbers(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of IRN's masks, at the best background score and at the one chosen without masks."""
        image_list = self.preset.splits[split]
        seeds = self.cams(self.train(flags, seed), image_list)
        walk = self.irn_walk(flags, image_list, seed)
        return self.evaluate(walk, split, "--t", "auto", "--seed_dir", str(seeds.output))

    def aff_masks(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """Pseudo masks of AffinityNet."""
        walk = self.preset.aff_walk.split()
        return self._expansion("aff", train_aff.parse_args, self.preset.aff, walk, flags, image_list, seed)

    def aff_numbers(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of AffinityNet's masks."""
        return self.evaluate(self.aff_masks(flags, self.preset.splits[split], seed), split, "--type", "png")

    def segmentation(self, make: Callable[..., Step] | None, seed: int, *infer: str) -> Step:
        """Numbers on val of DeepLab trained on the masks of irn_masks or aff_masks of CPN, or on the real ones (None).

        infer: flags of infer_seg.py over its defaults
        """
        preset = self.preset
        masks = make((), preset.train_list, seed) if make else None
        flags = ["--voc12_root", preset.voc12_root, "--train_list", preset.train_list, "--val_list", "none", *preset.seg.split()]
        flags += ["--seed", str(seed)]
        made_from = f"{masks.folder.name}/{masks.output.name}" if masks else MASK_DIR
        folder = self._session(train_seg.parse_args, f"seg_seed{seed}", flags, made_from)
        mask_dir = masks.output if masks else Path(preset.voc12_root) / MASK_DIR
        trained = self._trainer(
            "train_seg.py", [*flags, "--mask_dir", str(mask_dir)], folder, *([masks] if masks else self._data())
        )
        output = folder / f"mask_{digest({'flags': infer})}"
        infer_flags = ["--voc12_root", preset.voc12_root, "--infer_list", preset.splits["val"], "--weights", str(trained.output)]
        infer_flags += [*infer, "--out_mask", str(output), "--device", self.device]
        return self.evaluate(self._step("infer_seg.py", infer_flags, output, folder, trained), "val", "--type", "png")


# ============ tables ============
@dataclass(frozen=True)
class Line:
    """A row before it is measured: evaluate gives the last step for a seed; published: in print for the same, percent."""

    setting: str
    stage: str
    split: str
    evaluate: Callable[[int], Step]
    published: float | None = None

    @property
    def name(self) -> str:
        """What --rows looks at."""
        return f"{self.setting}, {self.stage}, {self.split}"


@dataclass(frozen=True)
class Table:
    """The title, a note on what the rows are, the rows of a data set, and settings that tell the rows apart, so that no flag for all
    trainings may change them.
    """

    title: str
    note: str
    lines: Callable[[Road, argparse.Namespace], list[Line]]
    varied: tuple[str, ...] = ()


def _seed_lines(road: Road, settings: dict[str, Sequence[str]]) -> list[Line]:
    split = road.preset.ablation_split
    return [Line(name, "seed", split, partial(road.seed, tuple(flags), split)) for name, flags in settings.items()]


def seeds_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """Three methods, and CPN with the settings of --preset best, with and without CRF, on both splits."""
    lines = []
    methods = {name: ("--method", name.lower()) for name in ("CAM", "SEAM", "CPN")}
    best = ("--method", "cpn", "--preset", "best")
    if road.train(best, 0).folder != road.train(methods["CPN"], 0).folder:  # equal where the data's own flags win over the preset
        methods["CPN, --preset best"] = best
    for name, flags in methods.items():
        for split in road.preset.splits:
            lines.append(Line(name, "seed", split, partial(road.seed, flags, split)))
            lines.append(Line(name, "seed + CRF", split, partial(road.seed_crf, flags, split)))
    return lines


def losses_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """A term more in each row."""
    pcm = ["--refinement", "pcm"]
    return _seed_lines(
        road,
        {
            "loss_cls": [*pcm, "--loss_weights", "loss_tcp=0", "loss_cpcr=0"],
            "loss_cls + loss_tcp": [*pcm, "--loss_weights", "loss_cpcr=0"],
            "loss_cls + loss_cpcr": [*pcm, "--loss_weights", "loss_tcp=0"],
            "loss_cls + loss_tcp + loss_cpcr": pcm,
            "all three + PRCM (CPN)": [],
        },
    )


def patches_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """Superpixels by number, grids by cell, pixels; the hidden fraction."""
    preset = road.preset
    settings = {f"superpixel {count}": ["--patch", "superpixel", "--superpixels", str(count)] for count in preset.superpixels}
    count = str(preset.superpixels[1])
    settings[f"superpixel {count}, exact half"] = ["--patch", "superpixel", "--superpixels", count, "--draw", "exact"]
    for cells in preset.cells:
        settings[f"grid {', '.join(map(str, cells))}"] = ["--patch", "grid", "--grid_sizes", *map(str, cells)]
    settings["pixel"] = ["--patch", "pixel"]
    ratios = {f"the preset's patches, {ratio} drawn": ["--hide_ratio", ratio] for ratio in ("0.25", "0.5", "0.75")}
    return _seed_lines(road, settings | ratios)


def prcm_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """The modules that refine: in training and inference, in the inference of one and the same CPN, and untrained on each method.

    The last are controls: what PCM, left as it starts, does for a network that saw no patches.
    """
    modules = {
        "none": ["--refinement", "none"],
        "PCM": ["--refinement", "pcm"],
        "PRCM": ["--refinement", "prcm"],
        "PCM + PRCM (CPN)": [],
        "PCM + PRCM, keys transposed": ["--prcm", "transposed"],
    }
    split = road.preset.ablation_split
    lines = _seed_lines(road, modules)
    for name, flags in (modules | {"none": ["--cam", "plain"]}).items():
        if flags:
            lines.append(Line(f"CPN's weights, {name}", "seed", split, partial(road.seed, (), split, infer=tuple(flags))))
    untrained = ("--refinement_factor", "0")
    on_plain = partial(road.seed, ("--method", "cam"), split, infer=("--cam", "refined", "--refinement", "pcm"))
    lines.append(Line("plain CAM, PCM untrained", "seed", split, on_plain))
    lines += _seed_lines(road, {"SEAM, PCM untrained": ["--method", "seam", *untrained]})
    if road.train(untrained, 0).folder != road.train((), 0).folder:
        lines += _seed_lines(road, {"CPN, PCM + PRCM untrained": untrained})
    return lines


def backbones_lines(road: Road, args: argparse.Namespace) -> list[Line]:
    """CPN on each backbone, and the plain CAM beside it."""
    lines = []
    for text in args.backbones or road.preset.backbones:
        name, _, stride = text.partition(":")
        flags = ["--backbone", name, *(["--output_stride", stride] if stride else [])]
        settings = {f"{method.upper()}, {text}": ["--method", method, *flags] for method in ("cam", "cpn")}
        lines += _seed_lines(road, settings)
    return lines


def pseudo_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """From CPN's seeds to pseudo masks."""
    stages = {
        "seed": road.seed,
        "seed + CRF": road.seed_crf,
        "AffinityNet mask": road.aff_numbers,
        "IRN mask": road.irn_numbers,
    }
    return [Line("CPN", stage, split, partial(make, (), split)) for split in road.preset.splits for stage, make in stages.items()]


def segmentation_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """DeepLab on CPN's pseudo masks, with and without CRF, and on real masks."""
    lines = []
    sources = {"CPN, AffinityNet masks": road.aff_masks, "CPN, IRN masks": road.irn_masks, "real masks (ceiling)": None}
    for name, make in sources.items():
        for stage, flags in (("segmentation", ("--crf", "none")), ("segmentation + CRF", ())):
            lines.append(Line(name, stage, "val", lambda seed, make=make, flags=flags: road.segmentation(make, seed, *flags)))
    return lines


TABLES = {
    "seeds": Table(
        "CAM, SEAM and CPN", "seed + CRF: dense CRF (SEAM's settings) at the seeds' best threshold.", seeds_lines, ("method",)
    ),
    "losses": Table(
        "Loss terms of CPN", "PCM alone refines in all rows but the last.", losses_lines, ("method", "refinement", "loss_weights")
    ),
    "patches": Table(
        "Complementary patches",
        "CPN; superpixel N: N segments asked of SLIC, 39 % of them hidden as released; grid: cell sides in pixels, one drawn an image, "
        "half of the cells hidden.",
        patches_lines,
        ("method", "hide_ratio", "draw"),
    ),
    "prcm": Table(
        "Refinement modules",
        "CPN with the modules in training and in inference; CPN's weights: trained with PCM + PRCM, refined by these modules alone; "
        "untrained: the modules' layers as they start, on a network of that method.",
        prcm_lines,
        ("method", "refinement", "prcm"),
    ),
    "backbones": Table("Backbones", "NAME:S is output stride S.", backbones_lines, ("method", "backbone", "output_stride")),
    "segmentation": Table(
        "Segmentation",
        "DeepLab as train_seg.py has it. In print CPN has 68.5 on test, the ceiling 78.2; the second expansion of CPN's number in print is "
        "the one its authors recommend.",
        segmentation_lines,
        ("method",),
    ),
    "pseudo": Table("From seeds to pseudo masks", PSEUDO_NOTE, pseudo_lines, ("method",)),
}


# ============ measuring ============
Plan = tuple[Line, dict[int, Step]]  # a row, and its last step for each seed


def measurement(step: Step, seed: int) -> Measurement:
    """What an evaluation wrote, with the time and commits of all steps before it."""
    numbers = json.loads(step.output.read_text(encoding="utf-8"))
    nowhere = numbers["classes_that_occur_nowhere"] if numbers["absent_classes"] == "skip" else ()
    return Measurement(
        seed=seed,
        miou=numbers["best_miou"],
        threshold=numbers["crf"]["bg_threshold"] if numbers["crf"] else numbers["best_threshold"],
        auto_miou=numbers.get("auto_miou"),
        auto_threshold=numbers.get("auto_threshold"),
        images=numbers["images"],
        classes=len(numbers["iou"]) - len(nowhere),
        seconds=seconds(step),
        commits=tuple(commits(step)),
    )


def measure(plan: Sequence[Plan]) -> tuple[list[Row], list[str]]:
    """(rows with what is there so far, the commands behind it)."""
    rows, commands = [], {}
    for line, steps in plan:
        made = {seed: step for seed, step in steps.items() if step.output.is_file()}
        found = tuple(measurement(step, seed) for seed, step in made.items())
        rows.append(Row(line.setting, line.stage, line.split, line.published, found))
        commands |= dict.fromkeys(part.command for step in made.values() for part in step.chain())
    return rows, list(commands)


def settings_text(settings: Mapping[str, Any]) -> str:
    """name value, name value, ... as one types them."""

    def word(value: Any) -> str:
        if isinstance(value, list | tuple):
            return "=".join(map(word, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    values = {name: value if isinstance(value, list | tuple) else [value] for name, value in settings.items()}
    return ", ".join(f"{name} {' '.join(map(word, value))}" for name, value in values.items())


def table_name(args: argparse.Namespace) -> str:
    """The table's files without their endings; flags that change what all its rows say have a digest in it."""
    own = {"train_flags": args.train_flags.split(), "score_images": args.score_images, "backbones": args.backbones}
    return f"{args.table}_{args.data}" + (f"_{digest(own)}" if any(own.values()) else "")


def require_rows_as_named(args: argparse.Namespace, preset: Preset) -> None:
    """Raise InputError where --train_flags change what the table's rows vary, or a flag belongs to another table."""
    if args.backbones and args.table != "backbones":
        raise InputError(f"--backbones is for the table backbones, not for {args.table}; give --train_flags '--backbone NAME'")
    before, now = (vars(train_cpn.parse_args(flags.split())) for flags in (preset.train, f"{preset.train} {args.train_flags}"))
    for name in TABLES[args.table].varied:
        if before[name] != now[name]:
            raise InputError(f"--train_flags change --{name}, in which rows of the table {args.table} differ")


def published_numbers(road: Road, args: argparse.Namespace, seed: int) -> dict[Path, float]:
    """What is in print for an evaluation of this seed, whatever a table calls it."""
    tables = (seeds_lines(road, args), segmentation_lines(road, args))
    keys = {line.evaluate(seed).output: (line.setting, line.stage, line.split) for lines in tables for line in lines}
    return {output: PUBLISHED[key] for output, key in keys.items() if key in PUBLISHED}


def write_table(args: argparse.Namespace, preset: Preset, plan: Sequence[Plan]) -> str:
    """Write Markdown, CSV and HTML of what is there so far, and return the Markdown."""
    table = TABLES[args.table]
    rows, commands = measure(plan)
    done, wanted = sum(len(row.measurements) for row in rows), sum(len(steps) for _, steps in plan)
    in_force = changed_settings(train_cpn.parse_args, ["--train_list", preset.train_list, *preset.train.split()])
    notes = [
        f"Data: {preset.about}. CAM networks: the released settings, train_cpn.py's defaults, but for {settings_text(in_force)}, and "
        "what a row says."
    ]
    if in_force.get("refinement_factor") == 0:
        notes.append(
            "refinement_factor 0: PCM and PRCM stay as they start, and loss_cpcr, which reaches nothing else where they refine, trains "
            "nothing."
        )
    notes += [f"Unfinished: {done} of {wanted} evaluations are there."] if done < wanted else []
    notes += [table.note, LEGEND + PUBLISHED_NOTE]
    text = markdown(table.title, notes, rows)
    for suffix, content in (("md", text), ("csv", csv_text(rows)), ("html", html(table.title, notes, rows, commands))):
        with atomic_write(Path(args.out) / f"{table_name(args)}.{suffix}", "w") as file:
            file.write(content)
    return text


def main(args: argparse.Namespace) -> None:
    """Run what is missing of a table, seed by seed, and write it."""
    preset = PRESETS[args.data]
    require_rows_as_named(args, preset)
    preset = replace(preset, voc12_root=args.voc12_root or preset.voc12_root, train=f"{preset.train} {args.train_flags}")
    if args.score_images is not None:
        preset = replace(preset, splits={split: f"{name}:{args.score_images}" for split, name in preset.splits.items()})
    if preset.voc12_root is None:
        raise InputError(f"--data {args.data} needs --voc12_root, the folder of the photographs in VOC layout")
    road = Road(preset, Path(args.results), args.num_workers, args.device)
    seeds = list(dict.fromkeys(args.seeds))
    if (Path(preset.voc12_root) / LIST_DIR).is_dir():  # else the first command makes it, or says that it is missing
        for image_list in preset.splits.values():
            load_ids(preset.voc12_root, image_list)
    published = published_numbers(road, args, seeds[0])
    plan = []
    for line in TABLES[args.table].lines(road, args):
        steps = {seed: line.evaluate(seed) for seed in seeds}
        plan.append((replace(line, published=published.get(steps[seeds[0]].output)), steps))
    chosen = [steps for line, steps in plan if args.rows.search(line.name)]
    if not chosen:
        raise InputError(f"--rows {args.rows.pattern} is found in no row of the table {args.table}")
    runner = Runner(execute, args.dry_run)
    for seed in seeds:
        for steps in chosen:
            runner.make(steps[seed])
            if not args.dry_run:
                write_table(args, preset, plan)
    if not args.dry_run:
        print(f"{write_table(args, preset, plan)}\ntable: {args.out}/{table_name(args)}.md, .csv, .html")


if __name__ == "__main__":
    run_script(main, parse_args)
