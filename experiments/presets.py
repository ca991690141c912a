"""Settings of the tables by data set: what the commands of every stage get. What they share with
the road of own photographs (experiments/own_road.py) has its home here too.
"""

from dataclasses import dataclass, replace

from flags import cpn_training
from voc12.constants import VOC12_ROOT
from voc12.sample import recipe

_SMALL = cpn_training.PRESETS["small"]
SMALL_RATES = f"--lr {_SMALL['lr']} --new_layer_factor {_SMALL['new_layer_factor']:g}"
UNTRAINED_PCM = "--cam refined --refinement pcm"  # what refines a plain CAM, of infer_cam.py
AGREED_CRF = "--crf irn --crf_threshold auto"  # of make_crf.py, for maps after consensus_cam.py
# A light DeepLab, its rate, how small it sees photographs in training, and in its test.
SEG_ARCH = "--arch deeplabv3plus"
SEG_HEAD = "--output_stride 32 --head_channels 128"
TAG_HEAD = "--tag_head"  # on one seed each, 0.5 to 2.6 points (docs/log/2026-11-28-last-step.md)
SEG_RATE = "--lr 0.002"
SEG_SCALE = "--scale 0.4 1.0"
SEG_TEST_SCALES = (0.75, 1.0)


@dataclass(frozen=True)
class Preset:
    """Settings of one data set; flags as one types them.

    voc12_root: folder, None if it must be given
    prepare:    flags of voc12.sample that make the data set, None if it is the user's
    train_list: images whose labels train
    splits:     name -> list with masks; ablations look at ablation_split
    train, irn, aff, seg: flags of the trainers; scales: flags of CAM inference; aff_walk: of
    infer_aff.py
    consensus_cam, consensus_seg, consensus_test: flags that the table consensus has over these: of
    its plain CAM over train, of its segmentation models over seg, of their infer_seg.py
    cells:      sets of cell sides that the table of patches tries, pixels; superpixels: counts
    backbones:  NAME or NAME:OUTPUT_STRIDE
    absent:     what a class does that occurs nowhere, as in evaluation_cam.py
    about:      the data set in words, without numbers that its lists have
    published:  data set whose numbers in print stand beside, of experiments.tables.PUBLISHED
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
    published: str = "voc12"
    aff_walk: str = ""
    consensus_cam: str = ""
    consensus_seg: str = ""
    consensus_test: str = ""


PRESETS = {
    "sample": Preset(
        voc12_root=recipe.DATA,
        prepare=f"--images {recipe.IMAGES} --val_images {recipe.VAL_IMAGES}",
        train_list="train_aug",
        splits={"train": "train", "val": "val"},
        ablation_split="val",
        train=f"{recipe.NETWORK} {recipe.TRAINING} {recipe.START_RATE} {recipe.PATCHES} "
        f"--max_epoches {recipe.START_EPOCHES + recipe.MAX_EPOCHES}",
        scales=recipe.SCALES,
        irn=f"{recipe.NETWORK} {recipe.IRN}",
        aff="--backbone efficientnet_lite0 --crop_size 128 --batch_size 8 --max_epoches 3",
        seg="--backbone efficientnet_lite0 --crop_size 128 --batch_size 8 --max_iterations 1000",
        superpixels=(25, 50, 100, 200),
        cells=((8,), (16,), (32,), (64,), (32, 64), (8, 16, 32, 64)),
        backbones=("efficientnet_lite0", "efficientnet_lite0:8"),
        absent="skip",
        consensus_cam=SMALL_RATES,
        consensus_seg=recipe.SEG,
        consensus_test=recipe.SEG_INFERENCE,
        about="the embedded sample data set, settings of demo.py, but each method from ImageNet "
        "weights",
    ),
    "photos": Preset(
        voc12_root=None,
        prepare=None,
        train_list="animals_train_aug",
        splits={"train": "animals_train_aug", "val": "animals_val"},
        ablation_split="val",
        train="--preset small --val_list none",
        scales="--scales 0.5 0.75 1.0",
        # Labels around the best threshold of CPN's maps, 0.53, as the released settings are around
        # a plain CAM's (docs/log).
        irn="--backbone efficientnet_lite0 --crop_size 256 --batch_size 8 --fg_threshold 0.65 "
        "--bg_threshold 0.4",
        aff="--backbone efficientnet_lite0 --crop_size 224 --batch_size 8 --max_epoches 4 "
        "--low_alpha 0.6 --high_alpha 3.4",
        aff_walk="--alpha 0.85",
        seg=f"{SEG_ARCH} --backbone efficientnet_lite0 {SEG_HEAD} --crop_size 224 --batch_size 8 "
        f"{SEG_RATE} --max_iterations 300",
        superpixels=(50, 100, 200, 300),
        cells=((10,), (20,), (40,), (80,), (40, 80), (10, 20, 40), (10, 20, 40, 80)),
        backbones=("efficientnet_lite0", "efficientnet_lite0:8"),
        absent="skip",
        consensus_seg=f"{SEG_SCALE} {TAG_HEAD}",
        consensus_test=f"--scales {' '.join(map(str, SEG_TEST_SCALES))}",
        about="VOC 2012 photographs of six animal classes",
    ),
    "voc12": Preset(
        voc12_root=VOC12_ROOT,
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
    # larger than of animals: classes of 14 to 35 photographs gain by it (docs/log)
    train="--preset small --val_list none --crop_size 224 --resize_long 256 400 "
    "--grid_sizes 56 112",
    scales="--scales 0.75 1.0 1.25",
    about="VOC 2012 photographs of all 20 classes",
)
# made by python -m voc12.coco, see docs/coco.md
PRESETS["coco14"] = replace(
    PRESETS["voc12"],
    voc12_root="data/coco14",
    train_list="train",
    about="COCO 2014",
    published="coco14",
)
