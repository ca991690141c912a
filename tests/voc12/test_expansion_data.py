"""The data sets of the second expansion: image and label stay together, and one seed gives one
sample.
"""

import numpy as np
import pytest
import torch

from tests.conftest import PETS
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.affinity import affinity_labels
from tool.expand.crf import CRF_SETTINGS
from tool.expand.seed import made_from
from tool.file.images import read_image, write_image, write_mask
from tool.transforms import normalise
from voc12.constants import IMAGE_DIR
from voc12.dataset import EpochSampler, epoch_loader
from voc12.expansion_data import AffTrainSet, IrnTrainSet, SeedSet, TopLeftCrops
from voc12.expansion_labels import AffinityScores, load_scores, make_labels
from voc12.lists import image_path, load_ids

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@pytest.fixture
def painted(tmp_path):
    """A data set of one 70 x 90 image that shows its own labels: grey 0, 100 or 200 where the label
    is 0, 1 or 2.
    """
    label = np.zeros((70, 90), dtype=np.uint8)
    label[10:50, 20:60] = 1
    label[40:66, 50:80] = 2
    write_image(tmp_path / IMAGE_DIR / "a.png", np.repeat(100 * label[:, :, None], 3, axis=2))
    write_mask(tmp_path / "labels" / "a.png", label)
    return tmp_path


def _irn_set(root, **changes):
    settings = {"mean": MEAN, "std": STD, "seed": 3, "crop_size": 64, "scale": (1.0, 1.0)} | changes
    return IrnTrainSet(root, ["a"], lambda name: root / "labels" / f"{name}.png", **settings)


def test_irn_sample_keeps_image_and_label_together(painted):
    data = _irn_set(painted)
    flips = set()
    for epoch in range(12):
        sample = data[(epoch, 0)]
        assert sample["image"].shape == (3, 64, 64)
        # IRN's reduction takes pixels 2, 6, 10, ...
        shown = ((sample["image"][0] * 0.5 + 0.5) * 255 / 100).round()[2::4, 2::4]
        torch.testing.assert_close(sample["label"], shown.to(torch.uint8), rtol=0, atol=0)
        first, second = (
            (sample["label"] == value).nonzero()[:, 1].float().mean() for value in (1, 2)
        )
        flips.add(bool(first > second))
    assert flips == {False, True}


def test_irn_sample_outside_the_image_is_ignored(painted):
    sample = _irn_set(painted, crop_size=96)[(0, 0)]
    inside = (sample["label"] != 255).float()
    assert inside.mean() == pytest.approx(70 * 90 / 96**2, abs=0.05)
    outside = torch.nn.functional.interpolate(1 - inside[None, None], scale_factor=4)[0, 0] > 0
    core = -torch.nn.functional.max_pool2d(-outside.float()[None], 9, stride=1, padding=4)[0] > 0
    assert core.any()
    assert (sample["image"][:, core] == 0).all()


def test_irn_sample_scales(painted):
    data = _irn_set(painted, crop_size=160, scale=(0.5, 1.5))
    areas = [
        float((data[(epoch, 0)]["label"] != 255).sum()) * 16 / (70 * 90) for epoch in range(40)
    ]
    assert min(areas) < 0.45
    assert max(areas) > 1.8
    assert all(0.2 < area < 2.4 for area in areas)


def test_samples_follow_seed_epoch_and_index_alone(painted):
    first, again, other = (
        _irn_set(painted, seed=seed, scale=(0.5, 1.5))[(1, 0)] for seed in (3, 3, 4)
    )
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["image"], other["image"])


def test_label_of_another_size_is_named(painted):
    write_mask(painted / "labels" / "a.png", np.zeros((90, 70)))
    with pytest.raises(
        InputError, match=r"labels/a\.png is of size \(90, 70\), its image \(70, 90\); delete it"
    ):
        _irn_set(painted)[(0, 0)]


def test_top_left_crops(painted):
    full = normalise(read_image(image_path(painted, "a")), MEAN, STD).transpose(2, 0, 1)
    crop = TopLeftCrops(painted, ["a"], MEAN, STD, crop_size=80)[0]["image"].numpy()
    np.testing.assert_array_equal(crop[:, :70], full[:, :, :80])
    assert not crop[:, 70:].any()


@pytest.fixture(scope="module")
def scored(pets_root, tmp_path_factory):
    """(ids, maker) with the score files made."""
    folder = tmp_path_factory.mktemp("scores")
    ids = load_ids(pets_root, "train")
    maker = AffinityScores(
        pets_root,
        write_seeds(pets_root, folder / "cam"),
        folder / "labels",
        PETS,
        4,
        24,
        CRF_SETTINGS["seam"],
    )
    make_labels(maker, ids, num_workers=1)
    return ids, maker


def test_affinity_sample_of_a_crop_larger_than_the_image(pets_root, scored):
    """The whole image is in the crop, so every cell can be checked: its place is where the scores
    are.
    """
    ids, maker = scored
    data = AffTrainSet(pets_root, ids, maker.path, MEAN, STD, seed=0, crop_size=96)
    for index, name in enumerate(ids):
        sample = data[(0, index)]
        low, high, _ = load_scores(maker.path(name))
        height, width = low.shape[1:]
        assert sample["image"].shape == (3, 96, 96)
        assert sample["label"].shape == (12, 12)
        inside = (sample["image"] != 0).any(dim=0)
        top, left = (
            int(side[0]) for side in (inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero())
        )
        candidates = []
        for flip in (False, True):
            maps = [torch.zeros(len(low), 96, 96) for _ in range(2)]
            for map_, scores in zip(maps, (low, high), strict=True):
                map_[:, top : top + height, left : left + width] = torch.from_numpy(
                    scores[:, :, ::-1].copy() if flip else scores
                )
            candidates.append(affinity_labels(*maps))
        assert any(torch.equal(sample["label"], candidate) for candidate in candidates)
        assert {0, 1, 255} <= set(sample["label"].unique().tolist())


def test_affinity_samples_are_jittered_and_repeatable(pets_root, scored):
    ids, maker = scored
    data = AffTrainSet(pets_root, ids, maker.path, MEAN, STD, seed=0, crop_size=48)
    first, again, later = data[(0, 1)], data[(0, 1)], data[(1, 1)]
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["image"], later["image"])


def test_loader_draws_nothing_from_torch(pets_root, scored):
    """Neither a new epoch nor a resume in its middle may move the generator that dropout draws
    from.
    """
    ids, maker = scored
    data = AffTrainSet(pets_root, ids, maker.path, MEAN, STD, seed=0, crop_size=48)
    loader = epoch_loader(data, batch_size=2, seed=5, num_workers=0, pin_memory=False)
    state = torch.get_rng_state()
    whole, rest = list(loader(0, 0)), list(loader(0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(whole) == 2
    assert len(rest) == 1
    assert (
        whole[1]["id"]
        == rest[0]["id"]
        == [ids[index] for _, index in list(EpochSampler(5, 2, 5, 0))[2:]]
    )
    assert torch.equal(whole[1]["image"], rest[0]["image"])


def test_seed_set_leaves_out_finished_masks(pets_root, tmp_path):
    ids = load_ids(pets_root, "train")
    cam_dir = write_seeds(pets_root, tmp_path / "cam")
    meta = {"stage": "irn_mask", "beta": 10}

    def names(**changes):
        arguments = {"overwrite": False, "meta": meta} | changes
        data = SeedSet(
            pets_root,
            ids,
            cam_dir,
            tmp_path / "mask",
            classes=PETS,
            mean=MEAN,
            std=STD,
            **arguments,
        )
        return [data[index]["id"] for index in range(len(data))]

    assert names() == ids
    seed = seed_of(pets_root, ids[1])
    write_mask(
        tmp_path / "mask" / f"{ids[1]}.png",
        np.zeros(seed.size),
        made_from(meta, cam_dir / f"{ids[1]}.npz", seed),
    )
    assert names() == [ids[0], *ids[2:]]
    assert names(overwrite=True) == names(meta={"stage": "irn_mask", "beta": 8}) == ids
    sample = SeedSet(pets_root, ids, cam_dir, tmp_path / "mask", meta, PETS, MEAN, STD)[0]
    seed = seed_of(pets_root, ids[0])
    np.testing.assert_array_equal(sample["cam"], seed.cam)
    np.testing.assert_array_equal(sample["keys"], seed.keys)
    assert sample["image"].shape == (3, *seed.size)
    assert sample["meta"] == made_from(meta, cam_dir / f"{ids[0]}.npz", seed)
