"""The scripts that are attacked, and the tiny data set that they run on."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from network.aff import build_affinity_net
from network.build import build_cpn
from network.expansion_weights import build_irn
from network.seg import build_seg
from network.weights import save_network
from tests.seeds import write_seeds
from tests.synthetic import write_voc_tree
from tool.file.images import read_mask
from tool.file.segmentation import encode
from voc12.constants import IMAGE_DIR, MASK_DIR

CLASSES = ("cat", "dog", "owl")
NETWORK = "test_resnet"  # timm's smallest with maps at all strides

SMALL = f"--backbone {NETWORK} --weights none --device cpu --log_every 1"
TRAIN = f"--voc12_root data --train_list train {SMALL} --results out --session_name run"
CAM_TRAINING = (
    f"{TRAIN} --val_list val --crop_size 64 --resize_long 60 90 --superpixels 30 --batch_size 2 "
    "--max_epoches 2 --save_minutes 0.001"
)
EXPANSION = "--cam_dir cams --batch_size 2 --max_epoches 2 --save_minutes 0.001"
INFER = "--voc12_root data --infer_list train --device cpu"
LIST = "--voc12_root data --list train"


@dataclass(frozen=True)
class Script:
    """A command on the tiny data set: a module, its flags, and where its inputs lie."""

    module: str
    flags: str
    inputs: tuple[str, ...]
    workers: bool = True  # whether it has --num_workers
    trains: bool = False  # saves at SIGTERM and Ctrl-C, and is alone in its folder
    share: int = 2

    def words(self, workers: int) -> list[str]:
        """The flags, with a number of worker processes."""
        return [*self.flags.split(), *(["--num_workers", str(workers)] if self.workers else [])]


DATA = ("data/JPEGImages", "data/cls_labels.npy", "data/ImageSets/Segmentation/train.txt")
SCRIPTS = {
    "train_cpn": Script("train_cpn", CAM_TRAINING, DATA, trains=True, share=4),
    "train_irn": Script(
        "train_irn",
        f"{TRAIN} {EXPANSION} --crop_size 80 --label_dir out/labels",
        (*DATA, "cams"),
        trains=True,
    ),
    "train_aff": Script(
        "train_aff",
        f"{TRAIN} {EXPANSION} --crop_size 72 --label_dir out/scores",
        (*DATA, "cams"),
        trains=True,
    ),
    "train_seg": Script(
        "train_seg",
        f"{TRAIN} --val_list val --mask_dir masks --arch deeplabv3 --head_channels 8 "
        "--crop_size 64 --batch_size 2 --max_iterations 4 --val_every 2 --save_minutes 0.001",
        (*DATA, "masks"),
        trains=True,
    ),
    "infer_cam": Script(
        "infer_cam",
        f"{INFER} --weights weights/cpn.pth --scales 0.5 1 --out_cam out/cam --save_png out/png",
        (*DATA, "weights/cpn.pth"),
        share=4,
    ),
    "infer_cam photographs": Script(
        "infer_cam",
        "--image data/JPEGImages --device cpu --weights weights/cpn.pth --scales 1 "
        "--save_png out/png --out_cam out/cam --confidence",
        ("data/JPEGImages", "weights/cpn.pth"),
    ),
    "make_crf": Script(
        "make_crf",
        f"{INFER.replace(' --device cpu', '')} --cam_dir cams --out_cam out/crf --out_mask out/m",
        (*DATA[::2], "cams"),
        share=4,
    ),
    "make_masks": Script(
        "make_masks",
        "--voc12_root data --infer_list train --cam_dir cams --out_mask out/m --t 0.4",
        ("cams",),
    ),
    "evaluation_cam": Script(
        "evaluation_cam",
        f"{LIST} --predict_dir cams --curve_png out/a.png --json out/a.json "
        "--logfile out/log.txt --per_image out/a.npz",
        ("cams", "data/SegmentationClassAug"),
    ),
    "infer_irn": Script(
        "infer_irn",
        f"{INFER} --weights weights/irn.pth --cam_dir cams --out_mask out/m",
        (*DATA[::2], "cams", "weights/irn.pth"),
    ),
    "infer_aff": Script(
        "infer_aff",
        f"{INFER} --weights weights/aff.pth --cam_dir cams --out_mask out/m",
        (*DATA[::2], "cams", "weights/aff.pth"),
    ),
    "infer_seg": Script(
        "infer_seg",
        f"{INFER} --weights weights/seg.pth --scales 1 --out_mask out/m",
        (*DATA[::2], "weights/seg.pth"),
    ),
    "export_seg": Script(
        "export_seg",
        "--weights weights/seg.pth --out out/seg --export onnx",
        ("weights/seg.pth",),
        workers=False,
        share=1,
    ),
    "export_masks": Script(
        "export_masks",
        "masks --to coco --out out/masks.json --images data/JPEGImages --classes data/classes.txt "
        "--overwrite",
        ("masks", "data/JPEGImages"),
    ),
    "report": Script(
        "report",
        f"{LIST} --refined_dir cams --out out/report.html",
        ("cams", "data/JPEGImages", "data/SegmentationClassAug"),
        share=3,
    ),
    "voc12.coco": Script(
        "voc12.coco",
        "--instances coco.json --images data/JPEGImages --out out/coco",
        ("coco.json", "data/JPEGImages"),
        share=3,
    ),
    "voc12.prepare": Script(
        "voc12.prepare",
        "--voc12_root out/voc --voc_tar voc.tar --sbd_tar sbd.tgz --expect 3",
        ("voc.tar", "sbd.tgz"),
        workers=False,
        share=3,
    ),
}


def make_world(folder: Path) -> Path:
    """Write all inputs into folder, and return it."""
    # only here: the archives of that module take a while
    from tests.voc12.test_prepare import SBD_FILES, VOC_FILES, tar_file

    folder.mkdir(parents=True, exist_ok=True)
    write_voc_tree(folder / "data", {"train": 5, "val": 2}, class_count=3, classes=CLASSES)
    write_seeds(folder / "data", folder / "cams")
    shutil.copytree(folder / "data" / MASK_DIR, folder / "masks")
    torch.manual_seed(0)
    cpn = {"backbone": NETWORK, "num_classes": 3}
    seg = {"arch": "deeplabv3", "head_channels": 8, **cpn}
    for name, net, config in (
        ("cpn", build_cpn(**cpn), cpn),
        ("irn", build_irn(NETWORK, "none"), {"backbone": NETWORK, "crop_size": 96}),
        ("aff", build_affinity_net(NETWORK), {"backbone": NETWORK, "preset": "psa"}),
        ("seg", build_seg(**seg), seg),
    ):
        path = folder / "weights" / f"{name}.pth"
        save_network(path, net.eval(), config | {"method": name}, CLASSES, {})
    (folder / "coco.json").write_text(json.dumps(_instances(folder / "data")))
    tar_file(folder / "voc.tar", VOC_FILES)
    tar_file(folder / "sbd.tgz", SBD_FILES)
    return folder


def _instances(root: Path) -> dict:
    images, annotations = [], []
    for place, path in enumerate(sorted((root / IMAGE_DIR).iterdir())):
        mask = read_mask(root / MASK_DIR / f"{path.stem}.png")
        size = dict(zip(("height", "width"), mask.shape, strict=True))
        images.append({"id": place, "file_name": path.name, **size})
        annotations += [
            {"image_id": place, "category_id": int(value), "segmentation": encode(mask == value)}
            for value in np.unique(mask[(mask > 0) & (mask < 255)])
        ]
    categories = [{"id": place, "name": name} for place, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def copied(world: Path, place: Path) -> Path:
    """A copy of the world, large files linked, without outputs."""
    shutil.copytree(world, place, copy_function=_link_large, symlinks=True)
    return place


def _link_large(source: str, target: str) -> None:
    if source.endswith(".pth"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
