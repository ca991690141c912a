"""Seeds in the layouts of other codes go through CRF, IRN and report with our seeds' numbers."""

import re

import numpy as np
import pytest
import torch

import infer_irn
import make_crf
import report
from network.expansion_weights import build_irn
from network.weights import save_network
from tests.conftest import PETS
from tests.seeds import seed_of, write_seeds
from tool.file.cam_file import CamFile
from tool.file.images import read_mask
from voc12.lists import load_ids


def unit(seed: CamFile) -> dict:
    """SEAM's and AffinityNet's: class -> unit map."""
    return dict(zip(seed.keys.tolist(), seed.cam, strict=True))


def irn(seed: CamFile) -> dict:
    """IRN's: what it resizes, and the map."""
    return {"keys": seed.keys, "cam": seed.cam[:, ::4, ::4], "high_res": seed.cam}


def hr_cam(seed: CamFile) -> dict:
    """PuzzleCAM's: keys count the background."""
    return {"keys": np.concatenate([[0], seed.keys + 1]), "hr_cam": seed.cam}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of an untrained IRN."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "irn.pth"
    config = {"method": "irn", "backbone": "resnet10t", "crop_size": 96}
    save_network(path, build_irn("resnet10t", "none").eval(), config, PETS, {})
    return path


def outputs(root, weights, cam_dir, out):
    """(masks after the CRF, masks after IRN's walk, the report's table of results)."""

    def run(script, *flags, cams="--cam_dir"):
        words = ["--voc12_root", root, cams, cam_dir, "--num_workers", 0, *flags]
        script.main(script.parse_args([str(word) for word in words]))

    crf = ["--crf_threshold", 0.3, "--crf_set", "bilateral_sxy=8", "--out_mask", out / "crf"]
    run(make_crf, "--infer_list", "train", "--out_cam", out / "cam", *crf)
    walk = ["--weights", weights, "--bg_threshold", 0.25, "--device", "cpu"]
    run(infer_irn, "--infer_list", "train", "--out_mask", out / "irn", *walk)
    page = ["--mask_dir", out / "irn", "--out", out / "report.html"]
    run(report, "--list", "train", *page, cams="--refined_dir")
    names = load_ids(root, "train")
    masks = [read_mask(out / kind / f"{name}.png") for kind in ("crf", "irn") for name in names]
    table = re.search("<table.*?</table>", (out / "report.html").read_text(), re.DOTALL)[0]
    return masks, table


@pytest.fixture(scope="module")
def own(pets_root, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return outputs(pets_root, weights, write_seeds(pets_root, folder / "seeds"), folder)


@pytest.mark.parametrize("layout", [unit, irn, hr_cam])
def test_three_layouts(layout, own, pets_root, weights, tmp_path):
    (tmp_path / "seeds").mkdir()
    for name in load_ids(pets_root, "train"):
        value = layout(seed_of(pets_root, name))
        np.save(tmp_path / "seeds" / f"{name}.npy", value, allow_pickle=True)
    masks, table = outputs(pets_root, weights, tmp_path / "seeds", tmp_path)
    for found, expected in zip(masks, own[0], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert any(mask.any() for mask in masks)
    assert re.search(r">\d\d\.\d", table)
    assert table == own[1]
