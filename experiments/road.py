"""The commands of one data set, from training to evaluation, each with the file that it leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.presets import AGREED_CRF, Preset
from flags import aff_training, cpn_training, irn_training, seg_training
from tool.file.digests import digest
from tool.run.flags import AUTO
from tool.run.steps import Step
from tool.run.training_flags import FREE_SETTINGS
from voc12.constants import MASK_DIR

WITHIN_LABELS = ("--within_labels", "auto")  # of infer_seg.py


def changed_settings(parse: Callable, flags: Sequence[str]) -> dict[str, Any]:
    """Those of a trainer's settings that flags change from its defaults, and that may change its
    result.
    """
    settings, defaults = vars(parse(list(flags))), vars(parse([]))
    free = {*FREE_SETTINGS, "preset"}
    return {
        key: value for key, value in settings.items() if value != defaults[key] and key not in free
    }


def deciding_settings(parse: Callable, flags: Sequence[str]) -> dict[str, Any]:
    """changed_settings without those that train_cpn.py does not read with the others; a length that
    follows from the list is told by its rule.
    """
    settings, args = changed_settings(parse, flags), parse(list(flags))
    if hasattr(args, "method"):
        unread = cpn_training.unread_flags(args)
        settings = {name: value for name, value in settings.items() if name not in unread}
    if settings.get("max_iterations") == AUTO:
        settings["max_iterations"] = cpn_training.AUTO_RULE
    return settings


def crf_cams(masks: Step) -> Path:
    """The CAM files that make_crf.py leaves beside its masks."""
    return Path(masks.flags[masks.flags.index("--out_cam") + 1])


def per_image_file(numbers: Path) -> Path:
    """Where the counts of single photographs lie of an evaluation whose JSON file is numbers."""
    return numbers.with_suffix(".npz")


@dataclass(frozen=True)
class Road:
    """The commands of one data set, from training to evaluation. What a session is called follows
    from its settings.
    """

    preset: Preset
    results: Path
    num_workers: int
    device: str

    def _step(
        self, script: str, flags: Sequence[str], output: Path, folder: Path, *needs: Step
    ) -> Step:
        return Step(script, (*flags, "--num_workers", str(self.num_workers)), output, folder, needs)

    def _data(self) -> tuple[Step, ...]:
        if self.preset.prepare is None:
            return ()
        folder = Path(self.preset.voc12_root)
        return (
            Step(
                "-m voc12.sample",
                (*self.preset.prepare.split(), "--out", str(folder)),
                folder,
                self.results,
            ),
        )

    def _session(
        self, parse: Callable, name: str, flags: Sequence[str], made_from: str = ""
    ) -> Path:
        """Its folder: a name, and a digest of the flags that differ from the trainer's defaults and
        may change its result.

        A --preset is no setting but what others default to, so that two ways to say the same share
        a session.
        """
        settings = deciding_settings(parse, flags)
        return self.results / f"{name}_{digest(settings | {'from': made_from})}"

    def _trainer(self, script: str, flags: Sequence[str], folder: Path, *needs: Step) -> Step:
        where = [
            "--session_name",
            folder.name,
            "--results",
            str(self.results),
            "--device",
            self.device,
        ]
        return self._step(script, [*flags, *where], folder / f"{folder.name}.pth", folder, *needs)

    def train(self, flags: Sequence[str], seed: int) -> Step:
        """Weights of a CAM network; flags over the preset's."""
        flags = [
            "--train_list",
            self.preset.train_list,
            *self.preset.train.split(),
            *flags,
            "--seed",
            str(seed),
        ]
        flags = ["--voc12_root", self.preset.voc12_root, *flags]
        method = cpn_training.parse_args(flags).method
        folder = self._session(cpn_training.parse_args, f"{method}_seed{seed}", flags)
        return self._trainer("train_cpn.py", flags, folder, *self._data())

    def cams(self, weights: Step, image_list: str, *own: str) -> Step:
        """CAM files of a list; all lists of a session share a folder. own: flags of infer_cam.py
        over the preset's.
        """
        scales = self.preset.scales.split()
        folder = (
            weights.folder / f"cam_{digest({'scales': scales} | ({'own': own} if own else {}))}"
        )
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
        """Numbers of CAM files or masks on a split, in a file named after the list and a digest of
        the flags; beside it what was counted in each photograph (per_image_file).
        """
        image_list = self.preset.splits[split]
        how = ["--absent", self.preset.absent, *flags]
        name = f"{made.output.name}_{image_list.replace(':', '_')}_{digest({'flags': how})}.json"
        output = made.output.with_name(name)
        every = [
            "--voc12_root",
            self.preset.voc12_root,
            "--list",
            image_list,
            "--predict_dir",
            str(made.output),
        ]
        written = ["--json", str(output), "--per_image", str(per_image_file(output))]
        return self._step("evaluation_cam.py", [*every, *how, *written], output, made.folder, made)

    def seed(self, flags: Sequence[str], split: str, seed: int, infer: Sequence[str] = ()) -> Step:
        """Numbers of seeds, at the best threshold and at the one chosen without masks. infer: flags
        of infer_cam.py.
        """
        return self.evaluate(
            self.cams(self.train(flags, seed), self.preset.splits[split], *infer),
            split,
            "--t",
            "auto",
        )

    def seed_crf(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of seeds after the dense CRF."""
        cams = self.cams(self.train(flags, seed), self.preset.splits[split])
        return self.evaluate(cams, split, "--crf", "seam")

    def _expansion(
        self,
        method: str,
        parse: Callable,
        own: str,
        walk: Sequence[str],
        seeds: Callable[[str], Step],
        image_list: str,
        seed: int,
    ) -> Step:
        """The files that infer_irn.py or infer_aff.py leaves: IRN's maps after the walk,
        AffinityNet's masks.

        seeds: image list -> CAM files
        """
        cams = [seeds(name) for name in dict.fromkeys((self.preset.train_list, image_list))]
        own_flags = [
            "--voc12_root",
            self.preset.voc12_root,
            "--train_list",
            self.preset.train_list,
            *own.split(),
        ]
        own_flags += ["--seed", str(seed)]
        folder = self._session(
            parse,
            f"{method}_seed{seed}",
            own_flags,
            made_from=f"{cams[0].folder.name}/{cams[0].output.name}",
        )
        cam_dir = ["--cam_dir", str(cams[0].output)]
        trained = self._trainer(f"train_{method}.py", [*own_flags, *cam_dir], folder, cams[0])
        mask_flags = [
            "--voc12_root",
            self.preset.voc12_root,
            "--infer_list",
            image_list,
            *cam_dir,
            *walk,
        ]
        mask_dir = folder / f"mask_{digest({'walk': walk})}"
        mask_flags += [
            "--weights",
            str(trained.output),
            "--out_mask",
            str(mask_dir),
            "--device",
            self.device,
        ]
        output = folder / "walk" if method == "irn" else mask_dir
        if method == "irn":
            mask_flags += ["--out_cam", str(output)]
        return self._step(f"infer_{method}.py", mask_flags, output, folder, trained, cams[-1])

    def irn_walk(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """CAM files of CPN's seeds after IRN's walk."""
        seeds = partial(self.cams, self.train(flags, seed))
        return self._expansion(
            "irn", irn_training.parse_args, self.preset.irn, (), seeds, image_list, seed
        )

    def irn_masks(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """Pseudo masks of IRN, at a background score chosen without masks: the released one is for
        a plain CAM.
        """
        walk, seeds = (
            self.irn_walk(flags, image_list, seed),
            self.cams(self.train(flags, seed), image_list),
        )
        output = walk.folder / "mask_auto"
        mask_flags = [
            "--voc12_root",
            self.preset.voc12_root,
            "--infer_list",
            image_list,
            "--cam_dir",
            str(walk.output),
        ]
        mask_flags += ["--t", "auto", "--seed_dir", str(seeds.output), "--out_mask", str(output)]
        return self._step("make_masks.py", mask_flags, output, walk.folder, walk)

    def irn_numbers(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of IRN's masks, at the best background score and at the one chosen without
        masks.
        """
        image_list = self.preset.splits[split]
        seeds = self.cams(self.train(flags, seed), image_list)
        walk = self.irn_walk(flags, image_list, seed)
        return self.evaluate(walk, split, "--t", "auto", "--seed_dir", str(seeds.output))

    def aff_masks(self, flags: Sequence[str], image_list: str, seed: int) -> Step:
        """Pseudo masks of AffinityNet."""
        seeds = partial(self.cams, self.train(flags, seed))
        walk = self.preset.aff_walk.split()
        return self._expansion(
            "aff", aff_training.parse_args, self.preset.aff, walk, seeds, image_list, seed
        )

    def aff_numbers(self, flags: Sequence[str], split: str, seed: int) -> Step:
        """Numbers of AffinityNet's masks."""
        return self.evaluate(
            self.aff_masks(flags, self.preset.splits[split], seed), split, "--type", "png"
        )

    def segmentation(self, make: Callable[..., Step] | None, seed: int, *infer: str) -> Step:
        """Numbers on val of DeepLab trained on the masks of irn_masks or aff_masks of CPN, or on
        the real ones (None).

        infer: flags of infer_seg.py over its defaults
        """
        masks = make((), self.preset.train_list, seed) if make else None
        trained = self._segmentation_network(masks, self.preset.seg.split(), seed)
        return self._segmentation_numbers(trained, "val", infer)

    def _segmentation_network(
        self, masks: Step | None, own: Sequence[str], seed: int, start: Step | None = None
    ) -> Step:
        """Weights of DeepLab trained on masks, or on the real ones (None).

        own: flags of train_seg.py; start: the CAM network that its backbone is taken from
        """
        preset = self.preset
        flags = [
            "--voc12_root",
            preset.voc12_root,
            "--train_list",
            preset.train_list,
            "--val_list",
            "none",
            *own,
        ]
        flags += ["--seed", str(seed)]
        made_from = f"{masks.folder.name}/{masks.output.name}" if masks else MASK_DIR
        if start:
            made_from += f", from {start.folder.name}"
        folder = self._session(seg_training.parse_args, f"seg_seed{seed}", flags, made_from)
        mask_dir = masks.output if masks else Path(preset.voc12_root) / MASK_DIR
        files = ["--mask_dir", str(mask_dir), *(["--weights", str(start.output)] if start else [])]
        needs = [step for step in (masks, start) if step]
        return self._trainer("train_seg.py", [*flags, *files], folder, *(needs or self._data()))

    def _segmentation_numbers(
        self, trained: Step, split: str, infer: Sequence[str], seeds: Step | None = None
    ) -> Step:
        """Numbers of a segmentation network's masks of a split; infer: flags of infer_seg.py;
        seeds: agreed_masks of the split, with whose CAM files they are joined. The masks of all
        splits share a folder.
        """
        how = {"flags": infer} | ({"joined": True} if seeds else {})
        output = trained.folder / f"mask_{digest(how)}"
        flags = ["--voc12_root", self.preset.voc12_root]
        flags += ["--infer_list", self.preset.splits[split], "--weights", str(trained.output)]
        if seeds:
            flags += ["--cam_dir", str(crf_cams(seeds))]
        flags += [*infer, "--out_mask", str(output), "--device", self.device]
        needs = (trained, seeds) if seeds else (trained,)
        masks = self._step("infer_seg.py", flags, output, trained.folder, *needs)
        return self.evaluate(masks, split, "--type", "png")

    # ============ what all photographs agree on; infer is always as of seed ============
    def agreed(
        self, flags: Sequence[str], image_list: str, seed: int, infer: Sequence[str] = ()
    ) -> Step:
        """CAM files of a list brought to what all photographs of the training list agree on; all
        lists of a session share a folder.
        """
        weights = self.train(flags, seed)
        teachers, seeds = (
            self.cams(weights, name, *infer) for name in (self.preset.train_list, image_list)
        )
        output = weights.folder / f"agreed_{seeds.output.name}"
        own_flags = ["--voc12_root", self.preset.voc12_root]
        own_flags += ["--train_list", self.preset.train_list, "--infer_list", image_list]
        own_flags += ["--weights", str(weights.output), "--cam_dir", str(seeds.output)]
        own_flags += ["--out_cam", str(output), "--device", self.device]
        needs = dict.fromkeys((teachers, seeds))
        return self._step("consensus_cam.py", own_flags, output, weights.folder, *needs)

    def agreed_numbers(
        self, flags: Sequence[str], split: str, seed: int, infer: Sequence[str] = ()
    ) -> Step:
        """Numbers of agreed CAM files, at the best threshold and at the one chosen without
        masks.
        """
        agreed = self.agreed(flags, self.preset.splits[split], seed, infer)
        return self.evaluate(agreed, split, "--t", "auto")

    def agreed_masks(
        self, flags: Sequence[str], image_list: str, seed: int, infer: Sequence[str] = ()
    ) -> Step:
        """Masks of agreed CAM files after a dense CRF, at the threshold that the list's photographs
        have without masks: so each list has a folder.
        """
        agreed = self.agreed(flags, image_list, seed, infer)
        name = f"{agreed.output.name}_{image_list.replace(':', '_')}"
        output = agreed.folder / f"mask_{name}"
        own_flags = ["--voc12_root", self.preset.voc12_root, "--infer_list", image_list]
        own_flags += ["--cam_dir", str(agreed.output), *AGREED_CRF.split()]
        own_flags += ["--out_cam", str(agreed.folder / f"crf_{name}"), "--out_mask", str(output)]
        return self._step("make_crf.py", own_flags, output, agreed.folder, agreed)

    def agreed_mask_numbers(
        self, flags: Sequence[str], split: str, seed: int, infer: Sequence[str] = ()
    ) -> Step:
        """Numbers of agreed_masks."""
        masks = self.agreed_masks(flags, self.preset.splits[split], seed, infer)
        return self.evaluate(masks, split, "--type", "png")

    def agreed_irn_numbers(
        self, flags: Sequence[str], split: str, seed: int, infer: Sequence[str] = ()
    ) -> Step:
        """Numbers of IRN's maps on agreed CAM files, as irn_numbers; it is sure of labels by
        thresholds without masks.
        """

        def agreed(image_list: str) -> Step:
            return self.agreed(flags, image_list, seed, infer)

        own = f"{self.preset.irn} --fg_threshold auto --bg_threshold auto"
        image_list = self.preset.splits[split]
        walk = self._expansion("irn", irn_training.parse_args, own, (), agreed, image_list, seed)
        seeds = agreed(image_list)
        return self.evaluate(walk, split, "--t", "auto", "--seed_dir", str(seeds.output))

    def agreed_segmentation(
        self,
        flags: Sequence[str],
        split: str,
        seed: int,
        infer: Sequence[str] = (),
        real: bool = False,
        joined: bool = False,
    ) -> Step:
        """Numbers of DeepLab that starts from the CAM network and learns from its agreed_masks, or
        from the real ones; joined: of its masks within the image labels, joined with those of
        agreed_masks.
        """
        preset, weights = self.preset, self.train(flags, seed)
        masks = None if real else self.agreed_masks(flags, preset.train_list, seed, infer)
        train = cpn_training.parse_args([*preset.train.split(), *flags])
        own = [*preset.seg.split(), *preset.consensus_seg.split(), "--backbone", train.backbone]
        trained = self._segmentation_network(masks, own, seed, weights)
        test = preset.consensus_test.split()
        if not joined:
            return self._segmentation_numbers(trained, split, test)
        seeds = self.agreed_masks(flags, preset.splits[split], seed, infer)
        return self._segmentation_numbers(trained, split, (*test, *WITHIN_LABELS), seeds)
