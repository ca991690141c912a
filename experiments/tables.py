"""The tables of the paper: their rows as commands, and what is in print beside them."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from experiments.presets import UNTRAINED_PCM, Preset
from experiments.road import Road
from flags import cpn_training
from tool.run.steps import Step

CEILING = "real masks (ceiling)"  # the setting of a segmentation model that these taught
# Data set -> (setting, stage, split) -> mIoU, one seed each. VOC 2012: section 8 of the papers'
# numbers (CPN table 1 and its references), ResNet38; the plain CAM's is AffinityNet's. The ablation
# tables are not at hand; they stay empty.
VOC12_NUMBERS = {
    ("CAM", "seed", "train"): 48.0,
    ("SEAM", "seed", "train"): 55.41,
    ("SEAM", "seed + CRF", "train"): 56.83,
    ("CPN", "seed", "train"): 57.41,
    ("CPN", "seed", "val"): 57.59,
    ("CPN, IRN masks", "segmentation + CRF", "val"): 67.8,
    (CEILING, "segmentation + CRF", "val"): 78.1,
}
# COCO 2014: neither method's own paper has it. SEAM's is a baseline of CONTA's authors, IRN's of
# RIB's; CPN has none in print.
COCO14_NUMBERS = {
    ("SEAM, AffinityNet masks", "segmentation + CRF", "val"): 31.9,
    ("CAM, IRN masks", "segmentation + CRF", "val"): 41.4,
}
PUBLISHED = {"voc12": VOC12_NUMBERS, "coco14": COCO14_NUMBERS}
PUBLISHED_NOTES = {
    "voc12": "*Published: ResNet38, VOC 2012, 21 classes, as the papers and released codes give "
    "them, without error bars; empty where nothing is in print or at hand.",
    "coco14": "*Published: COCO 2014, 81 classes, without error bars, as later papers report the "
    "two methods: SEAM with AffinityNet (ResNet38), a plain CAM with IRN (ResNet50); their "
    "segmentation networks are not the same.",
}
PSEUDO_NOTE = (
    "For pseudo masks print has, each from its own CAMs: AffinityNet 61.0 (its code; 58.1 in the "
    "README of its first release), SEAM with AffinityNet 63.61, IRN 66.5 (users: 64.9 to 66.0)."
)


@dataclass(frozen=True)
class Line:
    """A row before it is measured: evaluate gives the last step for a seed; published: in print for
    the same, percent; against: names of the rows whose difference from this one is asked for.
    """

    setting: str
    stage: str
    split: str
    evaluate: Callable[[int], Step]
    published: float | None = None
    against: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What --rows looks at."""
        return row_name(self.setting, self.stage, self.split)


@dataclass(frozen=True)
class Table:
    """The title, a note on what the rows are, the rows of a data set, settings that tell the rows
    apart, so that no flag for all trainings may change them, and what the note says of a data set.
    """

    title: str
    note: str
    lines: Callable[[Road, argparse.Namespace], list[Line]]
    varied: tuple[str, ...] = ()
    note_on: Callable[[Preset], str] = lambda _preset: ""


def row_name(setting: str, stage: str, split: str) -> str:
    """What --rows looks at, and how rows name each other."""
    return f"{setting}, {stage}, {split}"


def _seed_lines(
    road: Road, settings: dict[str, Sequence[str]], base: str | None = None
) -> list[Line]:
    """Rows of seeds, each against the one of the setting base."""
    split = road.preset.ablation_split
    return [
        Line(
            name,
            "seed",
            split,
            partial(road.seed, tuple(flags), split),
            against=(row_name(base, "seed", split),) if base not in (None, name) else (),
        )
        for name, flags in settings.items()
    ]


def seeds_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """Three methods, and CPN with the settings of --preset best where the data has no preset of its
    own, with and without CRF, on both splits.
    """
    lines = []
    methods = {name: ("--method", name.lower()) for name in ("CAM", "SEAM", "CPN")}
    best = ("--method", "cpn", "--preset", "best")
    own = cpn_training.parse_args(road.preset.train.split()).preset
    # equal where the data's own flags win over the preset
    if own == "paper" and road.train(best, 0).folder != road.train(methods["CPN"], 0).folder:
        methods["CPN, --preset best"] = best
    before: list[str] = []
    for name, flags in methods.items():
        for split in road.preset.splits:
            others = tuple(row_name(other, "seed", split) for other in before)
            lines.append(Line(name, "seed", split, partial(road.seed, flags, split), None, others))
            crf = partial(road.seed_crf, flags, split)
            seeds = (row_name(name, "seed", split),)
            lines.append(Line(name, "seed + CRF", split, crf, None, seeds))
        before.append(name)
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
        base="loss_cls",
    )


def patches_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """Superpixels by number, grids by cell, pixels; the hidden fraction."""
    preset = road.preset
    settings = {
        f"superpixel {count}": ["--patch", "superpixel", "--superpixels", str(count)]
        for count in preset.superpixels
    }
    count = str(preset.superpixels[1])
    settings[f"superpixel {count}, exact half"] = [
        "--patch",
        "superpixel",
        "--superpixels",
        count,
        "--draw",
        "exact",
    ]
    for cells in preset.cells:
        settings[f"grid {', '.join(map(str, cells))}"] = [
            "--patch",
            "grid",
            "--grid_sizes",
            *map(str, cells),
        ]
    settings["pixel"] = ["--patch", "pixel"]
    ratios = {
        f"the preset's patches, {ratio} drawn": ["--hide_ratio", ratio]
        for ratio in ("0.25", "0.5", "0.75")
    }
    return _seed_lines(road, settings | ratios, base=f"superpixel {count}")


def prcm_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """The modules that refine: in training and inference, in the inference of one and the same CPN,
    and untrained on each method.

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
    whole = "PCM + PRCM (CPN)"
    lines = _seed_lines(road, modules, base=whole)
    for name, flags in (modules | {"none": ["--cam", "plain"]}).items():
        if flags:
            lines.append(
                Line(
                    f"CPN's weights, {name}",
                    "seed",
                    split,
                    partial(road.seed, (), split, infer=tuple(flags)),
                    against=(row_name(whole, "seed", split),),
                )
            )
    untrained = ("--refinement_factor", "0")
    on_plain = partial(road.seed, ("--method", "cam"), split, infer=tuple(UNTRAINED_PCM.split()))
    against = (row_name(whole, "seed", split),)
    lines.append(Line("plain CAM, PCM untrained", "seed", split, on_plain, None, against))
    lines += _seed_lines(road, {"SEAM, PCM untrained": ["--method", "seam", *untrained]}, whole)
    if road.train(untrained, 0).folder != road.train((), 0).folder:
        lines += _seed_lines(road, {"CPN, PCM + PRCM untrained": untrained}, whole)
    return lines


def backbones_lines(road: Road, args: argparse.Namespace) -> list[Line]:
    """CPN on each backbone, against the plain CAM on it, and both against the first backbone."""
    lines: list[Line] = []
    for text in args.backbones or road.preset.backbones:
        name, _, stride = text.partition(":")
        flags = ["--backbone", name, *(["--output_stride", stride] if stride else [])]
        settings = {
            f"{method.upper()}, {text}": ["--method", method, *flags] for method in ("cam", "cpn")
        }
        its = _seed_lines(road, settings, base=f"CAM, {text}")
        first = [line.name for line in lines[: len(its)]]
        lines += [
            replace(line, against=(*line.against, *first[place : place + 1]))
            for place, line in enumerate(its)
        ]
    return lines


def pseudo_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """From CPN's seeds to pseudo masks."""
    stages = {
        "seed": road.seed,
        "seed + CRF": road.seed_crf,
        "AffinityNet mask": road.aff_numbers,
        "IRN mask": road.irn_numbers,
    }
    return [
        Line(
            "CPN",
            stage,
            split,
            partial(make, (), split),
            against=() if stage == "seed" else (row_name("CPN", "seed", split),),
        )
        for split in road.preset.splits
        for stage, make in stages.items()
    ]


def _of_method(method: str, make: Callable[..., Step]) -> Callable[..., Step]:
    """make, road.aff_masks or road.irn_masks, for the seeds of another method than CPN."""
    return lambda flags, *args: make(("--method", method.lower(), *flags), *args)


def segmentation_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """DeepLab on CPN's pseudo masks, with and without CRF, and on real masks; of other methods
    where these have a number in print.
    """
    lines = []
    others = {
        f"{method}, {expansion} masks": _of_method(method, make)
        for method in ("CAM", "SEAM")
        for expansion, make in (("AffinityNet", road.aff_masks), ("IRN", road.irn_masks))
    }
    in_print = {setting for setting, *_ in PUBLISHED[road.preset.published]}
    sources = {name: make for name, make in others.items() if name in in_print} | {
        "CPN, AffinityNet masks": road.aff_masks,
        "CPN, IRN masks": road.irn_masks,
        CEILING: None,
    }
    before: list[str] = []
    for name, make in sources.items():
        for stage, flags in (("segmentation", ("--crf", "none")), ("segmentation + CRF", ())):
            others = [row_name(other, stage, "val") for other in before]
            plain = [row_name(name, "segmentation", "val")] if not flags else []
            lines.append(
                Line(
                    name,
                    stage,
                    "val",
                    lambda seed, make=make, flags=flags: road.segmentation(make, seed, *flags),
                    against=(*others, *plain),
                )
            )
        before.append(name)
    return lines


def consensus_lines(road: Road, _args: argparse.Namespace) -> list[Line]:
    """What each step from seeds to a segmentation model wins, where all photographs agree on the
    seeds: three methods, the plain CAM refined by an untrained PCM.
    """
    cam = ("--method", "cam", *road.preset.consensus_cam.split())
    pcm = tuple(UNTRAINED_PCM.split())
    methods = {
        "CAM, PCM untrained": (cam, pcm),
        "SEAM": (("--method", "seam"), ()),
        "CPN": (("--method", "cpn"), ()),
    }
    seeds, agreed, masks = "seed", "seed + consensus", "seed + consensus + CRF"
    # what makes a stage, and the stages that it is set against
    stages = {
        seeds: (road.seed, ()),
        agreed: (road.agreed_numbers, (seeds,)),
        masks: (road.agreed_mask_numbers, (agreed,)),
        "seed + consensus + IRN": (road.agreed_irn_numbers, (agreed, masks)),
    }
    model, corrected = "segmentation + CRF", "segmentation within labels + CRF"
    lines, before = [], []
    for name, (flags, infer) in methods.items():
        for split in road.preset.splits:
            for stage, (make, stages_before) in stages.items():
                others = [row_name(name, other, split) for other in stages_before]
                others += [row_name(other, stage, split) for other in before]
                numbers = partial(make, flags, split, infer=infer)
                lines.append(Line(name, stage, split, numbers, against=tuple(others)))
        for split in road.preset.splits:
            numbers = partial(road.agreed_segmentation, flags, split, infer=infer, joined=True)
            others = [row_name(name, masks, split)]
            others += [row_name(other, corrected, split) for other in before]
            lines.append(Line(name, corrected, split, numbers, against=tuple(others)))
        others = [row_name(other, model, "val") for other in before]
        own = row_name(name, masks, "val")
        numbers = partial(road.agreed_segmentation, flags, "val", infer=infer)
        lines.append(Line(name, model, "val", numbers, against=(own, *others)))
        before.append(name)
    others = [row_name(other, model, "val") for other in before]
    ceiling = partial(road.agreed_segmentation, cam, "val", real=True)
    return [*lines, Line(CEILING, model, "val", ceiling, against=tuple(others))]


def consensus_settings(preset: Preset) -> str:
    """The flags that the table has over those of the other tables."""
    own = {
        "the plain CAM": preset.consensus_cam,
        "train_seg.py": preset.consensus_seg,
        "infer_seg.py": preset.consensus_test,
    }
    said = [f"{what}: {' '.join(flags.split())}" for what, flags in own.items() if flags.split()]
    return f"Over the settings of the other tables, {'; '.join(said)}." if said else ""


TABLES = {
    "seeds": Table(
        "CAM, SEAM and CPN",
        "seed + CRF: dense CRF (SEAM's settings) at the seeds' best threshold.",
        seeds_lines,
        ("method",),
    ),
    "losses": Table(
        "Loss terms of CPN",
        "PCM alone refines in all rows but the last.",
        losses_lines,
        ("method", "refinement", "loss_weights"),
    ),
    "patches": Table(
        "Complementary patches",
        "CPN; superpixel N: N segments asked of SLIC, 39 % of them hidden as released; grid: cell "
        "sides in pixels, one drawn an image, half of the cells hidden.",
        patches_lines,
        ("method", "hide_ratio", "draw"),
    ),
    "prcm": Table(
        "Refinement modules",
        "CPN with the modules in training and in inference; CPN's weights: trained with PCM + "
        "PRCM, refined by these modules alone; untrained: the modules' layers as they start, on a "
        "network of that method.",
        prcm_lines,
        ("method", "refinement", "prcm"),
    ),
    "backbones": Table(
        "Backbones",
        "NAME:S is output stride S.",
        backbones_lines,
        ("method", "backbone", "output_stride"),
    ),
    "segmentation": Table(
        "Segmentation",
        "DeepLab as train_seg.py has it. In print CPN has 68.5 on test, the ceiling 78.2; the "
        "second expansion of CPN's number in print is the one its authors recommend.",
        segmentation_lines,
        ("method",),
    ),
    "pseudo": Table("From seeds to pseudo masks", PSEUDO_NOTE, pseudo_lines, ("method",)),
    "consensus": Table(
        "From seeds to masks by what all photographs agree on",
        "Not in print. + consensus: consensus_cam.py, taught by the seeds of the training list "
        "alone; + CRF: masks, at the threshold chosen without masks; + IRN: trained on the maps "
        "after consensus, sure by thresholds chosen without masks. Segmentation: DeepLab from the "
        "weights of the row's CAM network, taught by the masks after the CRF; within labels: the "
        "mean of its probabilities and of those after the CRF, for the classes of the image label "
        "alone, which corrects what taught it; else it sees no image labels. The ceiling starts "
        "from the plain CAM's weights.",
        consensus_lines,
        ("method",),
        consensus_settings,
    ),
}
