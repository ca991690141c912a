"""The commands from a folder of photographs and their tags to masks and a model, and how far they
have come.

Each command is a script of this repository. Beside what it leaves is kept a digest of the command
and of all before it, so that the road goes on where it stopped. A changed photograph or tag has all
done again, a changed setting what comes from it, a changed real mask the scores, and what is gone,
or was written over since by another road into the same folder, is made again.
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.presets import (
    AGREED_CRF,
    SEG_ARCH,
    SEG_HEAD,
    SEG_RATE,
    SEG_SCALE,
    SEG_TEST_SCALES,
    TAG_HEAD,
    UNTRAINED_PCM,
)
from flags import cpn_training, seg_training
from tool.errors import InputError
from tool.file.atomic import write_json
from tool.file.digests import digest, file_digest
from tool.file.model_folder import read_cut_offs
from tool.run.photograph_flags import trained_long_side
from tool.run.steps import ROOT, execute
from tool.run.training_flags import FREE_SETTINGS
from voc12.own_masks import PREDICTED, RealMasks, mask_places
from voc12.own_photographs import Own, relative_path
from voc12.threshold_choice import choose_threshold

MOST_SHOWN = 200  # photographs on the page, 0.1 MB each
SPECK = 0.0005  # share of a photograph under which a part of a mask is no annotation
SHORT = 8  # characters of a digest in a name
PLACE_DIGITS = 16  # of a digest that names the mark of a place
CLASSIFIER, MODEL = "classifier.pth", "model.pth"  # copies of the weights in --out
EVALUATION = "evaluation.json"  # in --out: the scores by real masks


@dataclass(frozen=True)
class Settings:
    """What follows from the number of photographs and the machine, unless a flag says it.

    method: of the classifier; crop_size, batch_size, iterations: of its training, with seg_ of the
    segmentation model's; rounds: how often the model corrects the masks that it learnt from;
    scales, seg_scales: at which photographs are looked at; nproc: processes of each training
    """

    method: str
    backbone: str
    crop_size: int
    batch_size: int
    iterations: int
    seg_crop_size: int
    seg_batch_size: int
    seg_iterations: int
    rounds: int
    scales: tuple[float, ...]
    seg_scales: tuple[float, ...]
    nproc: int

    def lines(self) -> list[str]:
        """For the user to read."""
        return [f"{name}: {value}" for name, value in asdict(self).items()]


CAM, CPN, PCM = "cam", "cpn", "pcm"  # methods of train_cpn.py, and what refines a plain CAM
SECONDS_PER_IMAGE = {CAM: 0.07, "seam": 0.14, CPN: 0.2}  # of a training, on two cores
LEAST = 200  # iterations of the classifier
SEG_LEAST = 300  # of the model
SMALL_SET = 40  # photographs with labels, under which the model learns less and in less time


def choose_settings(labelled: int, gpus: int, given: dict[str, Any]) -> Settings:
    """The settings for so many photographs with labels; given: those that flags say, None for
    others.
    """
    batch = given.get("batch_size") or min(labelled, 16 if gpus else 8)
    most = 60_000 if gpus else 6_000
    seg_least = SEG_LEAST if labelled >= SMALL_SET else 150
    own = {
        "method": CAM,  # with an untrained PCM no worse than CPN where it was tried (docs/log)
        "backbone": "efficientnet_lite0",
        "crop_size": 224 if gpus else 160,
        "batch_size": batch,
        "iterations": min(most, max(LEAST, 6 * labelled // batch)),
        "seg_crop_size": 320 if gpus else 224,
        "seg_batch_size": max(2, batch),  # DeepLab's batch norm needs two
        "seg_iterations": min(most, max(seg_least, 9 * labelled // batch)),
        "rounds": 0,
        "scales": (0.5, 0.75, 1.0),
        "seg_scales": SEG_TEST_SCALES,
    }
    own |= {name: value for name, value in given.items() if value is not None}
    return Settings(
        **{"nproc": most_processes(gpus, own["batch_size"], own["seg_batch_size"])} | own
    )


def most_processes(gpus: int, batch: int, seg_batch: int) -> int:
    """As many of the GPUs as share both batches evenly, DeepLab's in parts of two or more."""
    shares = [n for n in range(1, gpus + 1) if not batch % n and not seg_batch % n]
    return max((n for n in shares if seg_batch // n >= 2), default=1)


@dataclass(frozen=True)
class Part:
    """A command of the road.

    words: after `python`; about: what it does, for the user; cost: seconds on two cores, roughly;
    leaves: the files and folders that it writes; before: a digest of all before it; state: of it as
    well; trains: whether it may run in several processes
    """

    words: tuple[str, ...]
    about: str
    cost: float
    leaves: tuple[Path, ...]
    before: str
    state: str
    trains: bool = False

    def command(self, nproc: int) -> list[str]:
        """Its words for so many processes."""
        if not self.trains or nproc == 1:
            return list(self.words)
        script, *flags = self.words
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(nproc)]
        return [*launcher, str(ROOT / script), *flags]

    def line(self, nproc: int) -> str:
        """The command as one types it in the repository's root."""
        return shlex.join(["python", *self.command(nproc)])


@dataclass
class Plan:
    """The parts of a road in their order, and where they leave what.

    images, out: folders that the user named; photographs, labelled, held, evaluated: how many there
    are; num_workers, device: of all commands that take them, which changes nothing of the result;
    state: digest of the data, then of all parts; paths_state: of the photographs' paths;
    masks_state: of the real masks
    """

    settings: Settings
    images: Path
    out: Path
    photographs: int
    labelled: int
    held: int
    evaluated: int
    num_workers: int
    device: str
    seed: int
    state: str
    paths_state: str = ""
    masks_state: str = ""
    parts: list[Part] = field(default_factory=list, init=False)
    classifier: Path = field(init=False)
    classifier_parts: int = field(init=False)
    model: Path = field(init=False)
    masks: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the parts."""
        self.classifier = self._train_classifier()
        self.classifier_parts = len(self.parts)
        self._make_seeds()
        self.model, self.masks = self._train_model()
        self._leave_outputs()

    @property
    def work(self) -> Path:
        """The folder of what is between."""
        return self.out / "work"

    @property
    def data(self) -> Path:
        """The data set in VOC layout."""
        return self.work / "data"

    @property
    def evaluated_data(self) -> Path:
        """The data set of the photographs that have real masks."""
        return self.work / "evaluated"

    @property
    def sureness(self) -> Path:
        """How sure each mask is."""
        return self.work / "sureness.json"

    def made(self, name: str) -> Path:
        """What was made with the classifier: cam, agreed, seeds, scores.json, ..."""
        return self.classifier.parent / name

    def _add(
        self,
        script: str,
        flags: Sequence[object],
        about: str,
        cost: float,
        leaves: Sequence[Path],
        *,
        machine: Sequence[str] = ("num_workers", "device"),
        trains: bool = False,
    ) -> None:
        words, before = [*script.split(), *map(str, flags)], self.state
        self.state = digest({"before": before, "words": [self._plain(w) for w in words]})
        for name in machine:
            words += [f"--{name}", str(getattr(self, name))]
        part = Part(tuple(words), about, cost, tuple(leaves), before, self.state, trains)
        self.parts.append(part)

    def _session(
        self, parse: Callable, name: str, flags: Sequence[object]
    ) -> tuple[Path, list[object]]:
        """(its weights, flags with those that say so); named after all that came before it and the
        trainer's settings in force, since a session goes on with the same settings alone.
        """
        settings = vars(parse([str(flag) for flag in flags]))
        in_force = {
            name: self._plain(str(value))
            for name, value in settings.items()
            if name not in FREE_SETTINGS
        }
        own = digest({"before": self.state, "settings": in_force})
        folder = self.work / "results" / f"{name}_{own[:SHORT]}"
        session = ["--session_name", folder.name, "--results", folder.parent]
        return folder / f"{folder.name}.pth", [*flags, *session]

    def _plain(self, word: str) -> str:
        """A word of a command, the same whatever the folder of all is called."""
        place = f"{self.out}/"
        return f"/{word.removeprefix(place)}" if word.startswith(place) else word

    def _train_classifier(self) -> Path:
        own = self.settings
        flags = ["--data_root", self.data, "--train_list", "train", "--val_list", "none"]
        flags += ["--preset", "small", "--method", own.method, "--backbone", own.backbone]
        long_side = own.crop_size * 23 // 20, own.crop_size * 9 // 5
        flags += ["--crop_size", own.crop_size, "--resize_long", *long_side]
        if own.method == CPN:
            flags += ["--grid_sizes", own.crop_size // 4, own.crop_size // 2]
        flags += ["--batch_size", own.batch_size, "--max_iterations", own.iterations]
        flags += ["--seed", self.seed]
        weights, flags = self._session(
            cpn_training.parse_args, f"classifier_seed{self.seed}", flags
        )
        image_cost = SECONDS_PER_IMAGE[own.method] * (own.crop_size / 160) ** 2
        cost = 8 + own.iterations * own.batch_size * image_cost
        about = "a classifier learns from the tags"
        self._add("train_cpn.py", flags, about, cost, [weights], trains=True)
        return weights

    def _make_seeds(self) -> None:
        own, made = self.settings, self.made
        data = ["--data_root", self.data]
        flags = [*data, "--infer_list", "tagged", "--weights", self.classifier]
        flags += ["--scales", *own.scales, "--out_cam", made("cam")]
        if own.method == CAM:
            flags += UNTRAINED_PCM.split()
        cost = 6 + 0.6 * self.labelled
        self._add("infer_cam.py", flags, "where it looks", cost, [made("cam")])
        flags = [*data, "--train_list", "tagged", "--infer_list", "tagged"]
        flags += ["--weights", self.classifier, "--cam_dir", made("cam")]
        flags += ["--out_cam", made("agreed")]
        about = "what all photographs agree on about their pixels"
        self._add("consensus_cam.py", flags, about, 8 + 0.3 * self.labelled, [made("agreed")])
        flags = [*data, "--infer_list", "all", "--weights", self.classifier]
        flags += ["--scores", made("scores.json")]
        cost = 6 + 0.2 * self.photographs
        self._add("infer_cam.py", flags, "what it sees", cost, [made("scores.json")])
        flags = [*data, "--scores", made("scores.json"), "--out_labels", made("labels.npy")]
        flags += ["--json", made("classifier.json"), "--held", "held" if self.held else "none"]
        leaves = [made("labels.npy"), made("classifier.json")]
        self._add("-m voc12.class_scores", flags, "how right it is", 4, leaves, machine=())
        flags = [*data, "--infer_list", "tagged", "--cam_dir", made("agreed"), *AGREED_CRF.split()]
        flags += ["--out_cam", made("crf"), "--out_mask", made("seeds")]
        about = "first masks: a threshold chosen without masks, outlines by a dense CRF"
        cost = 8 + 0.2 * self.labelled
        leaves = [made("crf"), made("seeds")]
        self._add("make_crf.py", flags, about, cost, leaves, machine=["num_workers"])

    def _train_model(self) -> tuple[Path, Path]:
        own, masks = self.settings, self.made("seeds")
        data = ["--data_root", self.data]
        for number in range(own.rounds + 1):
            last = number == own.rounds
            flags = [*data, "--train_list", "tagged", "--val_list", "none", "--mask_dir", masks]
            flags += [*SEG_ARCH.split(), "--backbone", own.backbone]
            flags += ["--weights", self.classifier]  # knows the classes already
            flags += [*SEG_HEAD.split(), TAG_HEAD, *SEG_RATE.split()]
            flags += ["--crop_size", own.seg_crop_size, *SEG_SCALE.split()]
            flags += ["--batch_size", own.seg_batch_size, "--max_iterations", own.seg_iterations]
            flags += ["--val_every", own.seg_iterations, "--seed", self.seed]
            weights, flags = self._session(seg_training.parse_args, f"model_{number + 1}", flags)
            about = "a segmentation model learns from the masks"
            area = (own.seg_crop_size / 224) ** 2
            cost = 8 + own.seg_iterations * own.seg_batch_size * 0.095 * area
            self._add("train_seg.py", flags, about, cost, [weights], trains=True)
            masks = weights.parent / "masks"
            which, count = ("all", self.photographs) if last else ("tagged", self.labelled)
            flags = [*data, "--infer_list", which, "--weights", weights, "--out_mask", masks]
            flags += ["--scales", *own.seg_scales, "--within_labels", self.made("labels.npy")]
            flags += ["--cam_dir", self.made("crf")]
            about = "it corrects them, within the tags"
            self._add("infer_seg.py", flags, about, 8 + 0.5 * count, [masks])
        return weights, masks

    def _leave_outputs(self) -> None:
        out, workers = self.out, ["num_workers"]
        # a photograph that is called otherwise has its mask put elsewhere, and nothing learnt anew
        self.state = digest({"before": self.state, "paths": self.paths_state})
        flags = ["--data_root", self.data, "--images", self.images, "--mask_dir", self.masks]
        flags += ["--out", out / "masks", "--json", self.sureness]
        about, cost = "masks of the photographs' own sizes", 6 + 0.05 * self.photographs
        leaves = [out / "masks", self.sureness]
        self._add("-m voc12.own_masks", flags, about, cost, leaves, machine=workers)
        flags = ["--weights", self.model, "--export", "onnx", "--out", out / "model"]
        leaves = [out / "model.onnx"]
        self._add("export_seg.py", flags, "the model for other programs", 45, leaves, machine=())
        flags = [out / "masks", "--to", "coco", "--images", self.images]
        flags += ["--min_area", SPECK, "--out", out / "annotations.json", "--overwrite"]
        about, leaves = "masks for annotation tools", [out / "annotations.json"]
        self._add("export_masks.py", flags, about, cost, leaves, machine=workers)
        flags = ["--data_root", self.data, "--list", "tagged", "--refined_dir", self.made("agreed")]
        flags += ["--mask_dir", self.made("seeds"), "--pred_dir", self.masks]
        # one word: a name may begin as a flag does
        flags += ["--session_dir", self.classifier.parent, f"--title={self.images.resolve().name}"]
        flags += ["--sureness", self.sureness, "--classifier", self.made("classifier.json")]
        flags += ["--out", out / "report.html", "--limit", min(self.labelled, MOST_SHOWN)]
        cost, leaves = 5 + 0.02 * self.labelled, [out / "report.html"]
        self._add("report.py", flags, "the page", cost, leaves, machine=workers)
        if self.evaluated:  # last, so that real masks that come later have nothing else done again
            before = self.state
            self.state = digest({"before": before, "masks": self.masks_state})
            flags = ["--data_root", self.evaluated_data, "--list", "val", "--type", "png"]
            flags += ["--predict_dir", self.evaluated_data / PREDICTED, "--absent", "skip"]
            flags += ["--json", out / EVALUATION]
            cost, leaves = 6 + 0.02 * self.evaluated, [out / EVALUATION]
            self._add("evaluation_cam.py", flags, "real masks", cost, leaves, machine=workers)
            self.parts[-1] = replace(self.parts[-1], before=before)


def file_states(paths: Sequence[Path]) -> list[list[Any]]:
    """What changes with each of the files: size and time, and the content's digest of those whose
    size and time another has as well, which might have changed places.
    """
    found = [(info.st_size, info.st_mtime_ns) for info in (path.stat() for path in paths)]
    counts = Counter(found)
    return [
        [*state, file_digest(path)] if counts[state] > 1 else list(state)
        for state, path in zip(found, paths, strict=True)
    ]


def masks_state(real: RealMasks) -> str:
    """The digest of real masks, which score the result, and of how they are read."""
    files = dict(zip(real.paths, file_states(list(real.paths.values())), strict=True))
    return digest({"files": files, "read": asdict(real.read)})


def data_state(own: Own, long_side: int) -> str:
    """The digest of photographs and labels: what all parts are made from."""
    copies = np.flatnonzero(own.copy_of != np.arange(len(own.ids)))  # who is held out follows them
    return digest(
        {
            "ids": own.ids,
            "files": file_states([one.path for one in own.photographs]),
            "classes": list(own.classes),
            "labels": [np.flatnonzero(row).tolist() for row in own.labels],
            "labelled": own.labelled.tolist(),
            "long_side": long_side,
        }
        | ({"copies": [copies.tolist(), own.copy_of[copies].tolist()]} if len(copies) else {})
    )


def paths_state(own: Own) -> str:
    """The digest of the photographs' paths, by which their masks are called: several paths make the
    same id.
    """
    return digest({"paths": [relative_path(one) for one in own.photographs]})


def training_of(weights: Path) -> dict[str, Any]:
    """What a file of weights says of its training."""
    from tool.file.state_dict import read_training  # brings torch, slow to import

    return read_training(weights)


def verdict_of(weights: Path) -> tuple[float, bool]:
    """(how bad the worst of its signs is, whether the training failed by them) of a classifier."""
    verdict = training_of(weights).get("verdict", {})
    return float(verdict.get("worst", np.inf)), bool(verdict.get("failures"))


def road_record(plan: Plan, own: Own) -> dict[str, Any]:
    """What is written to road.json, for app.py and others."""
    paths = {name: relative_path(one) for name, one in zip(own.ids, own.photographs, strict=True)}
    scores = json.loads(plan.made("scores.json").read_text())
    cut_offs = read_cut_offs(plan.made("classifier.json"), own.classes)
    sureness = json.loads(plan.sureness.read_text())
    tagged = [name for name, hot in zip(own.ids, own.labelled, strict=True) if hot]
    return {
        "version": 1,
        "state": plan.state,
        "images": str(plan.images.resolve()),
        "classes": list(own.classes),
        "classifier": CLASSIFIER,
        "model": MODEL,
        "refinement": PCM if plan.settings.method == CAM else None,
        "scales": list(plan.settings.scales),
        "long_side": trained_long_side(training_of(plan.model)),
        "threshold": choose_threshold(plan.data, tagged, plan.made("cam")),
        "min_score": dict(zip(own.classes, cut_offs, strict=True)),
        "scores": {paths[name]: its for name, its in scores.items() if name in paths},
        "masks": {paths[name]: place.as_posix() for name, place in mask_places(paths).items()},
        "sureness": {paths[name]: sure for name, sure in sureness.items() if name in paths},
        "settings": asdict(plan.settings),
    }


def require_room(plan: Plan, copies: Sequence[str]) -> None:
    """Raise InputError where a folder is in the place of a file that the road leaves, or a file in
    that of a folder, which a script would find out after the trainings; copies: files that are left
    in plan.out beside those of the parts.
    """
    leaves = [leaf for part in plan.parts for leaf in part.leaves]
    for path in (*leaves, *(plan.out / name for name in copies)):
        if path.suffix and path.is_dir():
            raise InputError(f"{path} is a folder, where a file is to be written; move it away")
        if not path.suffix and path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, where a folder is to be; move it away")


@dataclass
class Progress:
    """Runs parts, each unless it is done, and says what is left.

    A part is done where a mark says that it was the last to write in its places, and all is there
    that it left in them. So a road that goes another way in the same folder undoes what it writes
    over and no more.

    marks: folder of the marks, one a place
    """

    marks: Path
    nproc: int = 1
    execute: Callable[[Sequence[str]], int] = execute
    _spent: float = field(default=0.0, init=False)
    _worth: float = field(default=0.0, init=False)

    def run(self, plan: Plan, until: int | None = None) -> None:
        """Run the parts of a plan, or the first so many. Raises InputError where one fails, or
        leaves nothing.
        """
        todo = {
            number: part
            for number, part in enumerate(plan.parts, start=1)
            if not self.is_done(plan, part, number)
        }
        for number, part in todo.items():
            if until is not None and number > until:
                break
            rate = self._spent / self._worth if self._worth else 1.0
            left = sum(later.cost for place, later in todo.items() if place >= number)
            line = part.line(self.nproc)
            minutes = max(1, round(left * rate / 60))
            print(
                f"\n[{number}/{len(plan.parts)}] {part.about}; about {minutes} min left\n{line}",
                flush=True,
            )
            mark = self._mark(plan.out, part.leaves)
            mark.unlink(missing_ok=True)  # a part that is stopped leaves some of each
            start = time.monotonic()
            if (status := self.execute(part.command(self.nproc))) != 0:
                raise InputError(
                    f"`{line}` ended with {status}; its message stands above. The same command of "
                    "masks_from_tags.py goes on from there"
                )
            for leaf in part.leaves:
                if not leaf.exists():
                    raise InputError(f"`{line}` ended well, but left no {leaf}")
            seconds = time.monotonic() - start
            self._spent, self._worth = self._spent + seconds, self._worth + part.cost
            said = {"state": part.state, "before": part.before, "files": left_in(part.leaves)}
            write_json(mark, said | {"command": line, "seconds": round(seconds, 1)})

    def is_done(self, plan: Plan, part: Part, number: int) -> bool:
        """Whether a part, the so-manieth of the plan, need not run."""
        mark = self._read(self._mark(plan.out, part.leaves))
        if mark.get("state") == part.state:
            there = left_in(part.leaves)
            return len(there) == len(mark["files"]) and all(
                set(names) <= set(found) for names, found in zip(mark["files"], there, strict=True)
            )
        # of earlier versions, a mark a state; weights alone are never written over
        old = self.marks / f"{number:02d}_{part.state}.json"
        return part.trains and old.is_file() and all(leaf.is_file() for leaf in part.leaves)

    def drop_old_scores(self, plan: Plan) -> None:
        """Remove the scores by real masks that a road with --masks left, where this one has none
        and its masks are others.
        """
        path = plan.out / EVALUATION
        if plan.evaluated or not path.is_file():
            return
        if self._read(self._mark(plan.out, [path])).get("before") != plan.state:
            path.unlink()
            print(f"{path} scored other masks and is removed; --masks scores these")

    def _mark(self, out: Path, leaves: Sequence[Path]) -> Path:
        places = [leaf.relative_to(out).as_posix() for leaf in leaves]
        return self.marks / f"{digest({'places': places}, PLACE_DIGITS)}.json"

    @staticmethod
    def _read(mark: Path) -> dict[str, Any]:
        return json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}


def left_in(leaves: Sequence[Path]) -> list[list[str]]:
    """Of each file or folder the files that are there, by their paths in it; of what is missing
    none, of a file its name.
    """
    return [
        sorted(path.relative_to(leaf).as_posix() for path in leaf.rglob("[!.]*") if path.is_file())
        if leaf.is_dir()
        else [leaf.name] * leaf.is_file()
        for leaf in leaves
    ]
