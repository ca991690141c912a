"""A page to try a model of masks_from_tags.py in a browser: drop a photograph, see class scores,
CAMs and masks, move the threshold, save a mask, correct tags, look through the worst masks.

Reads the folder that masks_from_tags.py has made; writes <model>/corrections.csv, in the form that
masks_from_tags.py --tags reads. Needs requirements-app.txt. Listens on this machine alone, but for
--host, and asks nothing of any other.

    python app.py --model results/mine
"""

from tool.start import answer_flags

if __name__ == "__main__":
    answer_flags("flags.trial", __doc__)  # before the imports, which take seconds

import argparse
import base64
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from flags.trial import parse_args
from network.cpn import CPNHead
from network.seg import SegNet
from network.seg_weights import load_seg
from network.trial import Trial, try_photograph
from network.weights import load_network
from tool.errors import InputError, naming_file, run_script
from tool.file.images import mask_png, read_image, read_mask
from tool.file.model_folder import CORRECTIONS, ModelFolder, correct_tags, read_model_folder
from tool.file.photographs import PHOTOGRAPH_SUFFIXES
from tool.mask_values import BACKGROUND
from tool.run.device import KEEP_SMALL, choose_device
from tool.run.web_server import (
    LOOPBACK,
    exit_at_signals,
    import_gradio,
    listen,
    upload_folder,
    web_app,
)
from tool.show.overlay import mask_overlay
from tool.show.page import escape
from tool.show.trial_page import (
    STYLE,
    fitted,
    heat_figure,
    mask_figure,
    said,
    score_bars,
)

MODEL, CAM = "model", "cam"  # masks that can be saved
PAGE = 12  # worst masks at a time
SEEN_FROM = 0.5  # a class without a cut-off
FIRST = (
    "Drop a photograph above, or choose one of the run's in the second tab. You see which classes "
    "the model finds in it, and where."
)
SAVE = """(uri, name) => {
  if (!uri) return;
  const link = document.createElement("a");
  link.href = uri;
  link.download = name;
  link.click();
}"""


@dataclass(frozen=True)
class Networks:
    """The classifier and the segmentation network of a model folder, on a device."""

    folder: ModelFolder
    classifier: CPNHead
    model: SegNet
    device: torch.device

    @property
    def cut_offs(self) -> np.ndarray:
        """(C,) probabilities from which on a class counts as seen."""
        folder = self.folder
        return np.array([folder.min_score.get(name, SEEN_FROM) for name in folder.classes])


@dataclass
class Shown:
    """The photograph of a visitor.

    name: what its mask is called after; image: what a correction calls it; trial: its maps; small:
    the photograph as large as it is shown
    """

    name: str
    image: str
    trial: Trial
    small: np.ndarray
    known: bool = field(default=False)


def load_networks(folder: ModelFolder, device: torch.device) -> Networks:
    """Both networks; InputError where their classes are not the folder's."""
    classifier, _, classes = load_network(folder.classifier)
    model, _, others = load_seg(folder.model)
    for path, found in ((folder.classifier, classes), (folder.model, others)):
        if found != folder.classes:
            its, said = (", ".join(names[:3]) for names in (found, folder.classes))
            raise InputError(
                f"{path} knows {its} ..., road.json {said} ...; make the folder again with "
                "masks_from_tags.py"
            )
    classifier.refinement = folder.refinement or classifier.refinement
    for net in (classifier, model):
        net.to(device, memory_format=torch.channels_last)
    return Networks(folder, classifier, model, device)


def shown_photograph(networks: Networks, path: Path, image: str | None) -> Shown:
    """The photograph at path after both networks; image: its path in the run's photographs, if it
    is one of them.
    """
    folder = networks.folder
    with naming_file(path.name):
        pixels = read_image(path)
        trial = try_photograph(
            pixels,
            networks.classifier,
            networks.model,
            folder.scales,
            folder.long_side,
            networks.device,
        )
    image = image or folder.name_of(path)
    return Shown(path.stem, image or path.name, trial, fitted(pixels), image is not None)


# ============ what the page shows: HTML of a Shown ============
def scores_html(networks: Networks, shown: Shown) -> str:
    """The probabilities of the classes with maps, and their cut-offs."""
    classes = networks.folder.classes
    scores = {classes[key]: float(shown.trial.probability[key]) for key in shown.trial.keys}
    return score_bars(scores, dict(zip(classes, networks.cut_offs.tolist(), strict=True)))


def model_html(networks: Networks, shown: Shown, keys: list[int]) -> str:
    """The mask of the segmentation model."""
    return mask_figure(
        "model_mask",
        "The model's mask",
        "by the segmentation model, within the ticked classes",
        shown.small,
        shown.trial.model_mask(keys),
        (BACKGROUND, *networks.folder.classes),
    )


def cam_mask_html(networks: Networks, shown: Shown, keys: list[int], threshold: float) -> str:
    """The mask of the refined CAM at the threshold."""
    return mask_figure(
        "cam_mask",
        f"The classifier's mask at threshold {threshold:.2f}",
        "where the refined map below is above the threshold",
        shown.small,
        shown.trial.cam_mask(threshold, keys),
        (BACKGROUND, *networks.folder.classes),
    )


def maps_html(shown: Shown, keys: list[int]) -> tuple[str, str]:
    """The refined and the plain map over the ticked classes."""
    return (
        heat_figure(
            "refined",
            "Refined map",
            "the map, spread to similar pixels",
            shown.small,
            shown.trial.heat(shown.trial.refined, keys),
        ),
        heat_figure(
            "plain",
            "Map (CAM)",
            "what made the classifier see the ticked classes",
            shown.small,
            shown.trial.heat(shown.trial.plain, keys),
        ),
    )


def worst_masks(folder: ModelFolder, page: int) -> list[tuple[np.ndarray, str]]:
    """(photograph with its mask, what stands below) of a page of the worst masks; one that cannot
    be read any more, or is not of its photograph's size, is grey and says why.
    """
    found = []
    for name in folder.worst_first()[page * PAGE : (page + 1) * PAGE]:
        try:
            image, mask = read_image(folder.photograph(name)), read_mask(folder.mask(name))
            if mask.shape != image.shape[:2]:
                raise InputError(
                    f"{folder.photograph(name)} is of size {image.shape[:2]}, its mask "
                    f"{mask.shape} (height, width); was it changed since masks_from_tags.py?"
                )
            small = fitted(image)
            place = [
                (np.arange(new) * old // new)
                for new, old in zip(small.shape[:2], mask.shape, strict=True)
            ]
            picture = mask_overlay(small, mask[np.ix_(*place)])
            labels = [label for label in np.unique(mask) if 0 < label <= len(folder.classes)]
            seen = ", ".join(folder.classes[label - 1] for label in labels) or BACKGROUND
            words = f"{seen}, {100 * folder.sureness[name]:.0f} % sure: {name}"
        except InputError as error:
            picture, words = np.full((90, 120, 3), 128, np.uint8), f"{name}: {error}"
        found.append((picture, words))
    return found


def mask_uri(networks: Networks, shown: Shown, keys: list[int], threshold: float | None) -> str:
    """The mask, palette PNG of the photograph's size, as a data URI: the model's, or at a threshold
    the classifier's.
    """
    size, trial = shown.trial.photograph, shown.trial
    mask = (
        trial.model_mask(keys, size) if threshold is None else trial.cam_mask(threshold, keys, size)
    )
    meta = {"classes": list(networks.folder.classes)}
    return "data:image/png;base64," + base64.b64encode(mask_png(mask, meta)).decode()


# ============ the page ============
class Page:
    """The page of a model folder, served at host; its methods are what happens on it."""

    def __init__(self, gr: ModuleType, networks: Networks, host: str) -> None:
        self.gr, self.networks, self.folder, self.host = gr, networks, networks.folder, host
        self.blocks = gr.Blocks(
            title="Try the model", analytics_enabled=False, delete_cache=(3600, 3600)
        )
        with self.blocks:
            gr.HTML(self.introduction())
            with gr.Tabs() as self.tabs:
                with gr.Tab("Try a photograph", id="try"):
                    self.build_trial()
                with gr.Tab("Worst masks of the run", id="worst"):
                    self.build_gallery()
            self.connect()

    def introduction(self) -> str:
        """What the page is, in a line."""
        names = ", ".join(escape(name) for name in self.folder.classes[:20])
        more = " ..." if len(self.folder.classes) > 20 else ""
        where = (
            "Nothing that you drop here leaves this machine."
            if self.host in LOOPBACK
            else "What you drop here is sent to the machine that serves this page, and no further. "
            "Whoever opens the page sees the photographs of the run and may correct their tags."
        )
        return (
            '<h1 style="font-size:22px;margin:0">Try the model</h1><p style="margin:2px 0 0">'
            f"It knows {names}{more}. {where}</p>"
        )

    def build_trial(self) -> None:
        """The controls on the left, the pictures on the right."""
        gr = self.gr
        self.shown = gr.State(None, time_to_live=3600)
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                self.file = gr.File(
                    label="A photograph",
                    file_types=list(PHOTOGRAPH_SUFFIXES),
                    height=130,
                    elem_id="photograph",
                )
                self.message = gr.HTML(said(FIRST), elem_id="message")
                with gr.Column(visible=False) as self.controls:
                    self.scores = gr.HTML()
                    self.ticked = gr.CheckboxGroup(
                        label="Classes in the masks, and the tags to correct", elem_id="classes"
                    )
                    self.threshold = gr.Slider(
                        0,
                        1,
                        self.folder.threshold,
                        step=0.01,
                        label="Threshold of the classifier's mask",
                        info="higher: less is taken for a class",
                        elem_id="threshold",
                    )
                    self.which = gr.Radio(
                        [("the model's", MODEL), ("the classifier's, at the threshold", CAM)],
                        value=MODEL,
                        label="Mask to save",
                    )
                    self.save = gr.Button("Save the mask (PNG)", elem_id="save")
                    self.correct = gr.Button(
                        f"The ticked classes are right: add to {CORRECTIONS}", elem_id="correct"
                    )
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    self.model_mask, self.cam_mask = gr.HTML(min_width=280), gr.HTML(min_width=280)
                with gr.Row():
                    self.refined, self.plain = gr.HTML(min_width=280), gr.HTML(min_width=280)
        self.uri = gr.Textbox(visible="hidden", elem_id="uri")
        self.name = gr.Textbox(visible="hidden")

    def build_gallery(self) -> None:
        """The worst masks, a page of them at a time."""
        gr = self.gr
        self.place = gr.State(0)
        count = len(self.folder.sureness)
        gr.HTML(
            f"<p>{count} masks, the least sure first. Click one to try its photograph and to "
            "correct its tags.</p>"
            if count
            else "<p>road.json does not say how sure the masks are.</p>"
        )
        self.gallery = gr.Gallery(
            worst_masks(self.folder, 0),
            format="jpeg",
            columns=4,
            object_fit="contain",
            height="auto",
            allow_preview=False,
            buttons=[],
            show_label=False,
            interactive=False,
            elem_id="worst",
        )
        with gr.Row():
            self.back = gr.Button("Back", visible=count > PAGE)
            self.more = gr.Button("More", visible=count > PAGE)

    def connect(self) -> None:
        """What follows on what. The threshold and the classes change what is kept of both networks;
        these run for a new photograph alone.
        """
        at_once = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
        masks = [self.cam_mask, self.model_mask, self.refined, self.plain]
        settings = [self.shown, self.ticked, self.threshold]
        opened = [self.shown, self.message, self.controls, self.scores, self.ticked, *masks]
        self.file.upload(self.drop, [self.file, self.threshold], opened, concurrency_limit=1)
        self.threshold.input(self.move, settings, self.cam_mask, api_name="move", **at_once)
        self.ticked.input(self.tick, settings, masks, api_name="tick", **at_once)
        self.save.click(
            self.mask, [*settings, self.which], [self.uri, self.name], api_name="save"
        ).then(None, [self.uri, self.name], None, js=SAVE)
        self.correct.click(self.send, [self.shown, self.ticked], self.message, api_name="correct")

        def choose(place: int, threshold: float, event: self.gr.SelectData) -> list[Any]:
            return self.choose(place * PAGE + event.index, threshold)

        self.gallery.select(
            choose, [self.place, self.threshold], [self.tabs, *opened], concurrency_limit=1
        )
        for button, step in ((self.back, -1), (self.more, 1)):
            button.click(partial(self.turn, step), self.place, [self.place, self.gallery])

    def open(self, path: Path, image: str | None, threshold: float) -> list[Any]:
        """What the page shows of a photograph, in the order of connect's opened."""
        gr = self.gr
        try:
            shown = shown_photograph(self.networks, path, image)
        except InputError as error:
            return [None, said(str(error), wrong=True), gr.update(visible=False), *[""] * 6]
        keys, classes = shown.trial.seen(self.networks.cut_offs), self.folder.classes
        choices = [(classes[key], int(key)) for key in shown.trial.keys]
        line = (
            f"{shown.image}: {', '.join(classes[key] for key in keys)}"
            if keys
            else f"{shown.image}: none of the classes is seen; tick one to see its maps"
        )
        return [
            shown,
            said(line),
            gr.update(visible=True),
            scores_html(self.networks, shown),
            gr.update(choices=choices, value=keys),
            *self.tick(shown, keys, threshold),
        ]

    def drop(self, path: str | None, threshold: float) -> list[Any]:
        """A photograph was dropped."""
        if path is None:
            return [self.gr.skip()] * 9
        return self.open(Path(path), None, threshold)

    def move(self, shown: Shown | None, keys: list[int], threshold: float) -> str:
        """The threshold was moved."""
        return "" if shown is None else cam_mask_html(self.networks, shown, keys, threshold)

    def tick(self, shown: Shown | None, keys: list[int], threshold: float) -> list[str]:
        """Classes were ticked on or off."""
        if shown is None:
            return [""] * 4
        return [
            cam_mask_html(self.networks, shown, keys, threshold),
            model_html(self.networks, shown, keys),
            *maps_html(shown, keys),
        ]

    def mask(
        self, shown: Shown | None, keys: list[int], threshold: float, which: str
    ) -> tuple[str, str]:
        """The mask is to be saved."""
        if shown is None:
            return "", ""
        at = threshold if which == CAM else None
        return mask_uri(self.networks, shown, keys, at), f"{shown.name}_mask.png"

    def send(self, shown: Shown | None, keys: list[int]) -> str:
        """The ticked classes are the tags."""
        if shown is None:
            return said("Drop a photograph first.", wrong=True)
        other = None if shown.known else self.folder.namesake(shown.image)
        if other is not None:
            return said(
                f"not written: {shown.image} is another photograph than {other} of the run; give "
                "it a name of its own, and drop it again",
                wrong=True,
            )
        tags = [self.folder.classes[key] for key in sorted(keys)]
        path = self.folder.path / CORRECTIONS
        try:
            count = correct_tags(path, shown.image, tags)
        except (InputError, OSError) as error:
            return said(f"not written: {error}", wrong=True)
        other = "" if shown.known else " It is none of the run's photographs: add it to them."
        return said(
            f"{path} has {count} photographs now; {shown.image}: "
            f"{', '.join(tags) or 'none of the classes'}.{other}"
        )

    def choose(self, index: int, threshold: float) -> list[Any]:
        """One of the worst masks was clicked, the one of this index."""
        name = self.folder.worst_first()[index]
        try:
            opened = self.open(self.folder.photograph(name), name, threshold)
        except InputError as error:
            opened = [None, said(str(error), wrong=True), self.gr.update(visible=False), *[""] * 6]
        return [self.gr.update(selected="try"), *opened]

    def turn(self, step: int, place: int) -> tuple[int, list]:
        """The next page of the worst masks, or the one before."""
        last = max(0, -(-len(self.folder.sureness) // PAGE) - 1)
        place = min(max(place + step, 0), last)
        return place, worst_masks(self.folder, place)


def main(args: argparse.Namespace) -> None:
    """Show the page until the user stops it."""
    folder = read_model_folder(args.model)
    gr = import_gradio()
    import uvicorn

    device = choose_device(args.device, KEEP_SMALL)
    networks = load_networks(folder, device)
    exit_at_signals()
    with upload_folder() as uploads, listen(args.host, args.port) as bound:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        app = web_app(gr, Page(gr, networks, args.host).blocks, STYLE, args.host)
        port = bound.getsockname()[1]
        print(f"open http://{args.host}:{port} in a browser; Ctrl-C ends it", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[bound])


if __name__ == "__main__":
    run_script(main, partial(parse_args, description=__doc__))
