"""COCO's 80 classes through every stage, from an instances JSON on: class 80 is mask value 80 at
the end of the road as at its start.
"""

import json

import numpy as np
import pytest

import evaluation_cam
import infer_aff
import infer_cam
import infer_irn
import infer_seg
import make_crf
import make_masks
import train_aff
import train_cpn
import train_irn
import train_seg
from tests.seeds import write_seeds
from tool.file.cam_file import load_cam
from tool.file.images import read_mask, read_mask_meta, write_image
from voc12 import coco
from voc12.constants import MASK_DIR
from voc12.labels import load_labels

CLASSES = tuple(f"class {number}" for number in range(1, 81))
NETWORK = ("--backbone", "resnet10t", "--weights", "none", "--device", "cpu")
NAMES = [f"COCO_train2014_{number:012d}" for number in range(6)]


def run(script, *words):
    script.main(script.parse_args([str(word) for word in (*words, "--num_workers", 0)]))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six photographs; image i shows categories 80 - i and i + 1, ids with gaps as COCO's."""
    folder = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, name in enumerate(NAMES):
        write_image(folder / "photos" / f"{name}.jpg", rng.integers(0, 256, (64, 80, 3), np.uint8))
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 64, "width": 80})
        for value, left in ((80 - number, 8), (number + 1, 44)):
            square = [left, 10, left + 30, 10, left + 30, 50, left, 50]
            item = {"image_id": number, "category_id": value + value // 9, "segmentation": [square]}
            annotations.append(item)
    categories = [{"id": v + v // 9, "name": name} for v, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_train2014.json").write_text(json.dumps(content))
    words = ["--instances", folder / "instances_train2014.json", "--images", folder / "photos"]
    run(coco, *words, "--out", folder / "coco14")
    return folder / "coco14"


@pytest.fixture(scope="module")
def seeds(root, tmp_path_factory):
    return write_seeds(root, tmp_path_factory.mktemp("seeds") / "cam", lists=("train",))


def evaluated(root, folder, predictions, *flags):
    words = ["--voc12_root", root, "--list", "train", "--predict_dir", predictions]
    run(evaluation_cam, *words, "--json", folder / "e.json", *flags)
    return json.loads((folder / "e.json").read_text())


def check_masks(folder, every=False):
    """A mask has the values of its image (every: both of them) alone, and says all the classes."""
    for number, name in enumerate(NAMES):
        values = set(np.unique(read_mask(folder / f"{name}.png"))) - {0, 255}
        assert values <= {80 - number, number + 1}
        assert not every or len(values) == 2
        assert tuple(read_mask_meta(folder / f"{name}.png")["classes"]) == CLASSES


def test_converted(root):
    labels = load_labels(root, NAMES, CLASSES)
    for number, name in enumerate(NAMES):
        assert np.flatnonzero(labels[number]).tolist() == [number, 79 - number]
        assert set(np.unique(read_mask(root / MASK_DIR / f"{name}.png"))) == {
            0,
            number + 1,
            80 - number,
        }


def test_cam_network(root, tmp_path):
    words = ["--voc12_root", root, "--train_list", "train", "--val_list", "none", *NETWORK]
    words += ["--patch", "grid", "--grid_sizes", 32, "--crop_size", 64, "--resize_long", 64, 80]
    run(train_cpn, *words, "--batch_size", 2, "--max_epoches", 1, "--results", tmp_path)
    weights = next(path for path in tmp_path.rglob("*.pth") if path.stem == path.parent.name)
    words = ["--voc12_root", root, "--infer_list", "train", "--weights", weights, "--scales", 0.5]
    run(infer_cam, *words, "--out_cam", tmp_path / "cam", "--device", "cpu")
    for number, name in enumerate(NAMES):
        cam_file = load_cam(tmp_path / "cam" / f"{name}.npz")
        assert sorted(cam_file.keys.tolist()) == [number, 79 - number]
    assert len(evaluated(root, tmp_path, tmp_path / "cam")["iou"]) == 81


def test_evaluation_of_seeds_that_are_the_blurred_masks(root, seeds, tmp_path):
    scores = evaluated(root, tmp_path, seeds, "--absent", "skip")
    assert scores["best_miou"] > 95
    shown = {f"class {value}" for number in range(6) for value in (number + 1, 80 - number)}
    assert {name for name, iou in scores["iou"].items() if iou} == shown | {"background"}
    assert min(scores["iou"][name] for name in shown) > 95


def test_crf_and_masks(root, seeds, tmp_path):
    words = ["--voc12_root", root, "--cam_dir", seeds, "--infer_list", "train"]
    mild = ["--crf_set", "bilateral_sxy=8", "iterations=1"]
    run(make_crf, *words, *mild, "--out_cam", tmp_path / "crf", "--out_mask", tmp_path / "mask")
    check_masks(tmp_path / "mask", every=True)
    run(make_masks, *words, "--t", 0.5, "--out_mask", tmp_path / "plain")
    check_masks(tmp_path / "plain", every=True)


def test_irn(root, seeds, tmp_path):
    words = ["--voc12_root", root, "--cam_dir", seeds]
    training = ["--train_list", "train", *NETWORK, "--crop_size", 80, "--batch_size", 2]
    training += ["--max_epoches", 1, "--results", tmp_path, "--label_dir", tmp_path / "labels"]
    run(train_irn, *words, *training)
    weights = ["--infer_list", "train", "--weights", tmp_path / "irn" / "irn.pth"]
    run(infer_irn, *words, *weights, "--out_mask", tmp_path / "mask", "--device", "cpu")
    check_masks(tmp_path / "mask")


def test_affinitynet(root, seeds, tmp_path):
    words = ["--voc12_root", root, "--cam_dir", seeds]
    training = ["--train_list", "train", *NETWORK, "--crop_size", 64, "--batch_size", 2]
    training += ["--max_epoches", 1, "--results", tmp_path, "--label_dir", tmp_path / "labels"]
    run(train_aff, *words, *training)
    weights = ["--infer_list", "train", "--weights", tmp_path / "aff" / "aff.pth"]
    run(infer_aff, *words, *weights, "--out_mask", tmp_path / "mask", "--device", "cpu")
    check_masks(tmp_path / "mask")


def test_segmentation(root, tmp_path):
    words = ["--voc12_root", root, "--train_list", "train", "--mask_dir", root / MASK_DIR]
    words += ["--arch", "deeplabv3plus", *NETWORK, "--head_channels", 16, "--crop_size", 64]
    words += ["--batch_size", 2, "--max_iterations", 2, "--results", tmp_path]
    run(train_seg, *words, "--val_list", "none")
    words = ["--voc12_root", root, "--infer_list", "train", "--scales", 0.5, "--device", "cpu"]
    words += ["--weights", tmp_path / "seg" / "seg.pth", "--out_mask", tmp_path / "mask"]
    run(infer_seg, *words)
    for name in NAMES:
        assert read_mask(tmp_path / "mask" / f"{name}.png").max() <= 80
        assert tuple(read_mask_meta(tmp_path / "mask" / f"{name}.png")["classes"]) == CLASSES
    assert len(evaluated(root, tmp_path, tmp_path / "mask", "--type", "png")["iou"]) == 81
