"""The data that benchmarks/coco.py makes are of COCO's make and convert without complaint."""

import numpy as np

from benchmarks import coco as benchmark
from tool.file.coco_json import parse_annotation, read_coco
from voc12 import coco
from voc12.lists import load_ids


def test_data_are_as_said(tmp_path):
    path = benchmark.make_data(tmp_path, 240, 2)
    made = read_coco(path)
    assert len(made.images) == 240
    annotated = np.unique(made.image)
    assert len(annotated) == 240 * benchmark.ANNOTATED // benchmark.IMAGES
    assert len(made.image) == 240 * benchmark.OBJECTS // benchmark.IMAGES
    items = [parse_annotation(text) for *_, text in made.annotations(0, len(made.image))]
    assert sum(item["iscrowd"] for item in items) == len(items) // 100
    points = [len(item["segmentation"][0]) // 2 for item in items if not item["iscrowd"]]
    assert 40 < np.mean(points) < 50
    words = ["--instances", path, "--images", tmp_path / "photos", "--out", tmp_path / "out"]
    coco.main(coco.parse_args([str(word) for word in (*words, "--num_workers", 0)]))
    assert len(load_ids(tmp_path / "out", "train")) == len(annotated)
