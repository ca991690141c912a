"""IRN's pseudo masks through the command line: parity with the walk, what the files say, resuming,
and refusals.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import evaluation_cam
from flags.irn_inference import RELEASED_BG_THRESHOLD
from infer_irn import main, parse_args
from network.expansion_inference import image_boundary, walked_cam
from network.expansion_weights import build_irn, load_irn
from network.weights import save_network
from tests.conftest import PETS
from tests.expansions import (
    assert_background,
    assert_half_precision_masks,
    assert_made_of_the_entry,
    evaluated,
    expand_flags,
    write_empty_seed,
)
from tests.reference import load_arrays
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.walk import edge_walk, unit_scores, unit_scores_to_label
from tool.file.cam_file import load_cam, save_cam
from tool.file.digests import file_digest
from tool.file.images import read_image, read_mask, read_mask_meta, write_image
from tool.mask_values import voc_palette
from tool.show.irn_pictures import boundary_picture, displacement_picture
from tool.transforms import normalise, to_tensor
from voc12.lists import image_path, load_ids
from voc12.threshold_choice import choose_threshold


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of an untrained IRN, as train_irn.py writes them."""
    torch.manual_seed(0)
    net = build_irn("resnet10t", "none").eval()
    path = tmp_path_factory.mktemp("weights") / "irn.pth"
    save_network(path, net, {"method": "irn", "backbone": "resnet10t", "crop_size": 96}, PETS, {})
    return path


@pytest.fixture(scope="module")
def cam_dir(pets_root, tmp_path_factory):
    return write_seeds(pets_root, tmp_path_factory.mktemp("seeds") / "cam")


def _infer(root, weights, cam_dir, out, *flags, score=RELEASED_BG_THRESHOLD):
    """score: None for the default, which is auto for these refined seeds."""
    if score is not None:
        flags = (*flags, "--bg_threshold", score)
    main(parse_args(expand_flags(root, weights, cam_dir, out, *flags)))
    return out


@pytest.fixture(scope="module")
def masks(pets_root, weights, cam_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    return _infer(pets_root, weights, cam_dir, folder / "mask", "--save_png", folder / "png")


def test_released_settings_are_the_defaults():
    args = parse_args([])
    assert (args.radius, args.beta, args.exp_times, args.bg_threshold) == (5, 10, 8, None)


def test_released_walk_gives_the_released_mask():
    """The last half of the script on the reference arrays: walk, resizing, division, argmax. The
    CAM there is at stride 4 already, so it is put in by hand.
    """
    arrays = load_arrays("stages/irn_walk")
    cam, edge = torch.from_numpy(arrays["cam"]), torch.from_numpy(arrays["edge"])[0]
    size = tuple(int(side) for side in arrays["image_size"])
    scores = unit_scores(edge_walk(cam, edge), size)
    label = unit_scores_to_label(scores, torch.from_numpy(arrays["keys"]))
    top = np.sort(np.concatenate([np.full((1, *size), 0.25), arrays["walked_up"]]), axis=0)
    sure = top[-1] - top[-2] > 1e-4
    np.testing.assert_array_equal(label.numpy()[sure], arrays["pred"][sure])


def test_masks_are_the_walk_of_the_seeds_on_the_boundary(masks, weights, pets_root):
    net, config = load_irn(weights)
    for name in load_ids(pets_root, "train")[:2]:
        seed = seed_of(pets_root, name)
        image = to_tensor(normalise(read_image(image_path(pets_root, name)), net.mean, net.std))
        edge, displacement = image_boundary(net, image, config["crop_size"], "fp32")
        assert edge.shape == displacement.shape[1:] == tuple(-(-side // 4) for side in seed.size)
        strided = F.interpolate(
            torch.from_numpy(seed.cam)[None], edge.shape, mode="bilinear", align_corners=False
        )[0]
        scores = unit_scores(edge_walk(strided, edge), seed.size)
        expected = unit_scores_to_label(scores, torch.from_numpy(seed.keys))
        np.testing.assert_array_equal(read_mask(masks / f"{name}.png"), expected.numpy())
        assert set(np.unique(expected.numpy())) == {0, *(seed.keys + 1)}


def test_masks_are_in_the_voc_palette_and_say_what_they_are(masks, weights, pets_root, cam_dir):
    name = load_ids(pets_root, "train")[0]
    with Image.open(masks / f"{name}.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:63] == voc_palette()[:21].ravel().tolist()
    meta = read_mask_meta(masks / f"{name}.png")
    assert (meta["stage"], meta["bg_threshold"], meta["crop_size"], meta["backbone"]) == (
        "irn_mask",
        0.25,
        96,
        "resnet10t",
    )
    assert meta["weights"] == file_digest(weights)
    assert meta["cam_digest"] == file_digest(cam_dir / f"{name}.npz")
    assert meta["cam"]["stage"] == "cam_refined"


def test_pictures(masks, pets_root, weights):
    name = load_ids(pets_root, "train")[1]
    net, _ = load_irn(weights)
    image = read_image(image_path(pets_root, name))
    edge, displacement = image_boundary(
        net, to_tensor(normalise(image, net.mean, net.std)), 96, "fp32"
    )
    with Image.open(masks.parent / "png" / f"{name}_boundary.png") as picture:
        np.testing.assert_allclose(
            np.array(picture).astype(int),
            boundary_picture(edge.numpy(), 4)[: image.shape[0], : image.shape[1]],
            atol=1,
        )
    with Image.open(masks.parent / "png" / f"{name}_displacement.png") as picture:
        assert np.array(picture).shape == image.shape
        expected = displacement_picture(displacement.numpy(), 4)[: image.shape[0], : image.shape[1]]
        # a hue is cut to whole numbers, so float noise may move it by one: by 6 of a channel
        difference = np.abs(np.array(picture).astype(int) - expected)
        assert difference.max() <= 6
        assert (difference > 0).mean() < 0.01


def test_pictures_of_another_network_are_drawn_again(masks, pets_root, weights, cam_dir, tmp_path):
    def infer(path, png):
        _infer(pets_root, path, cam_dir, tmp_path / "mask", "--save_png", tmp_path / png)
        return {path.name: path.read_bytes() for path in (tmp_path / png).iterdir()}

    torch.manual_seed(1)
    other, config = tmp_path / "other.pth", {"method": "irn", "backbone": "resnet10t"}
    save_network(other, build_irn("resnet10t", "none"), config | {"crop_size": 96}, PETS, {})
    expected = {path.name: path.read_bytes() for path in (masks.parent / "png").iterdir()}
    assert infer(other, "png").keys() == expected.keys()
    _infer(pets_root, weights, cam_dir, tmp_path / "mask")  # without pictures
    assert infer(weights, "png") == expected
    assert infer(weights, "missing") == expected  # of finished masks
    times = [path.stat().st_mtime_ns for path in (tmp_path / "png").iterdir()]
    for path in (tmp_path / "missing").iterdir():  # of before they said of which network they are
        write_image(path, read_image(path))
    infer(weights, "png")
    old = infer(weights, "missing")
    assert [path.stat().st_mtime_ns for path in (tmp_path / "png").iterdir()] == times
    assert not any(b"cpn_picture" in content for content in old.values())


def test_displacement_colours():
    """Right is red, down is a quarter of the colour circle further, and the longest is bright."""
    field = np.zeros((2, 1, 4))
    field[1, 0, 0] = 2
    field[0, 0, 1] = 2
    field[1, 0, 2] = 1
    colours = displacement_picture(field, 1)[0]
    assert colours[0].tolist() == [255, 0, 0]
    assert colours[1].argmax() == 1
    assert colours[1].max() == 255
    assert colours[2].tolist() == [127, 0, 0]
    assert colours[3].tolist() == [0, 0, 0]


def test_finished_masks_are_kept(masks, pets_root, weights, cam_dir):
    before = {path.name: path.stat().st_ino for path in masks.iterdir()}
    (masks / "2007_000002.png").unlink()
    _infer(pets_root, weights, cam_dir, masks)
    after = {path.name: path.stat().st_ino for path in masks.iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {"2007_000002.png"}
    _infer(pets_root, weights, cam_dir, masks, "--beta", 9)
    assert all(read_mask_meta(path)["beta"] == 9 for path in masks.iterdir())
    _infer(pets_root, weights, cam_dir, masks)


def test_masks_are_of_the_entry_that_is_named(pets_root, weights, cam_dir, tmp_path):
    def infer(path, out, *flags):
        _infer(pets_root, path, cam_dir, out, *flags)
        return min(out.iterdir())

    assert_made_of_the_entry(infer, weights, tmp_path / "mask", read_mask_meta)


def test_released_files_give_the_same_masks(masks, pets_root, weights, tmp_path):
    folder = write_seeds(pets_root, tmp_path / "cam", "released")
    for path in _infer(pets_root, weights, folder, tmp_path / "mask").iterdir():
        np.testing.assert_array_equal(read_mask(path), read_mask(masks / path.name))
        assert read_mask_meta(path)["cam"] == {"format": "released"}


def test_image_without_classes_is_background(pets_root, weights, tmp_path):
    folder = write_seeds(pets_root, tmp_path / "cam", "released")
    name, size = write_empty_seed(pets_root, folder)
    masks = _infer(pets_root, weights, folder, tmp_path / "mask")
    assert_background(masks / f"{name}.png", size)


def test_half_precision_gives_nearly_the_same_masks(masks, pets_root, weights, cam_dir, tmp_path):
    folder = _infer(pets_root, weights, cam_dir, tmp_path, "--precision", "bf16")
    assert_half_precision_masks(folder, masks)


def test_evaluation_reads_the_masks(masks, pets_root, capsys):
    said = evaluated(pets_root, masks, "train", capsys)
    assert said.startswith("list train, 5 images, irn_mask\nno threshold\n")


def test_cam_files_in_place_of_masks_are_named(pets_root, cam_dir):
    arguments = [
        "--voc12_root",
        pets_root,
        "--predict_dir",
        cam_dir,
        "--type",
        "png",
        "--num_workers",
        1,
        "--list",
        "train",
    ]
    with pytest.raises(
        InputError,
        match=r"5 of 5 label maps are not in .*; check --predict_dir \(CAM files need --type npy\)",
    ):
        evaluation_cam.main(evaluation_cam.parse_args([str(value) for value in arguments]))


def test_wrong_inputs_are_named(pets_root, weights, cam_dir, tmp_path):
    with pytest.raises(InputError, match="it holds masks: give the folder of CAM files"):
        _infer(pets_root, weights, pets_root / "SegmentationClassAug", tmp_path)
    val_only = write_seeds(pets_root, tmp_path / "cam", lists=("val",))
    with pytest.raises(
        InputError,
        match=r"5 of 5 images have no CAM file in .*, first 2007_000000; run infer_cam.py for them",
    ):
        _infer(pets_root, weights, val_only, tmp_path)
    other = tmp_path / "aff.pth"
    save_network(
        other, build_irn("resnet10t", "none"), {"method": "aff", "backbone": "resnet10t"}, PETS, {}
    )
    with pytest.raises(
        InputError,
        match=r"trained weights .*aff\.pth are not of IRN; give weights of train_irn\.py",
    ):
        _infer(pets_root, other, cam_dir, tmp_path)


def test_all_of_a_weak_cam_survives_its_own_scale():
    """Scores are divided by the image's highest: a CAM times 0.1 gives the same mask."""
    args = parse_args([])
    cam = torch.rand(2, 40, 48, generator=torch.Generator().manual_seed(0))
    edge = torch.rand(10, 12, generator=torch.Generator().manual_seed(1))
    keys = torch.tensor([3, 7])
    strong, weak = (
        unit_scores_to_label(
            walked_cam(cam * scale, keys, edge, args.radius, args.beta, args.exp_times), keys
        )
        for scale in (1.0, 0.1)
    )
    assert torch.equal(strong, weak)
    assert strong.shape == (40, 48)


def test_walked_cams_give_the_masks_at_the_masks_threshold(pets_root, weights, cam_dir, tmp_path):
    masks = _infer(pets_root, weights, cam_dir, tmp_path / "mask", "--out_cam", tmp_path / "cam")
    names = load_ids(pets_root, "train")
    for name in names:
        walked = load_cam(tmp_path / "cam" / f"{name}.npz")
        assert (walked.meta["stage"], "bg_threshold" in walked.meta) == ("irn_walk", False)
        label = unit_scores_to_label(
            torch.from_numpy(walked.cam), torch.from_numpy(walked.keys), 0.25
        )
        np.testing.assert_array_equal(label.numpy(), read_mask(masks / f"{name}.png"))
    times = [(tmp_path / "cam" / f"{name}.npz").stat().st_mtime_ns for name in names]
    (tmp_path / "cam" / f"{names[0]}.npz").unlink()
    _infer(pets_root, weights, cam_dir, tmp_path / "mask", "--out_cam", tmp_path / "cam")
    again = [(tmp_path / "cam" / f"{name}.npz").stat().st_mtime_ns for name in names]
    assert [a == b for a, b in zip(times, again, strict=True)] == [False] + [True] * (
        len(names) - 1
    )


def test_the_score_of_refined_seeds_is_chosen(pets_root, weights, cam_dir, tmp_path, capsys):
    folder = _infer(pets_root, weights, cam_dir, tmp_path / "mask", score=None)
    names = load_ids(pets_root, "train")
    walked = tmp_path / "mask_walked"
    chosen = choose_threshold(pets_root, names, walked, seed_dir=cam_dir)
    assert f"background score chosen without masks: {chosen:.2f}" in capsys.readouterr().out
    assert chosen != RELEASED_BG_THRESHOLD
    for name in names:
        cam = load_cam(walked / f"{name}.npz")
        label = unit_scores_to_label(torch.from_numpy(cam.cam), torch.from_numpy(cam.keys), chosen)
        np.testing.assert_array_equal(label.numpy(), read_mask(folder / f"{name}.png"))
        meta = read_mask_meta(folder / f"{name}.png")
        assert (meta["bg_threshold"], meta["stage"]) == (chosen, "irn_mask")
        assert meta["cam_digest"] == file_digest(cam_dir / f"{name}.npz")
    # all is kept, and a missing mask made from its map
    times = {path: path.stat().st_mtime_ns for path in [*walked.iterdir(), *folder.iterdir()]}
    (folder / f"{names[0]}.png").unlink()
    _infer(pets_root, weights, cam_dir, tmp_path / "mask", score=None)
    printed = capsys.readouterr()
    assert "5 of 5 maps after the walk are there already" in "".join(printed)
    changed = [path.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == [f"{names[0]}.png"]
    # the same mask as at that score by hand
    again = _infer(pets_root, weights, cam_dir, tmp_path / "given", score=chosen)
    for name in names:
        same = read_mask(again / f"{name}.png") == read_mask(folder / f"{name}.png")
        assert same.mean() > 0.999  # packed maps have steps of 1e-4


def test_the_released_score_is_that_of_plain_seeds(pets_root, weights, tmp_path, capsys):
    for name in load_ids(pets_root, "train"):
        seed = seed_of(pets_root, name)
        seed.meta["stage"] = "cam"
        save_cam(tmp_path / "cam", seed)
    _infer(pets_root, weights, tmp_path / "cam", tmp_path / "mask", score=None)
    said = "background score: --bg_threshold 0.25, since the seeds are a plain CAM's\n"
    assert said in capsys.readouterr().out
    scores = {read_mask_meta(path)["bg_threshold"] for path in (tmp_path / "mask").iterdir()}
    assert scores == {RELEASED_BG_THRESHOLD}
    assert not (tmp_path / "mask_walked").exists()


@pytest.mark.parametrize("format", ["released", "irn"])
def test_the_score_of_seeds_that_name_no_stage_is_chosen(
    pets_root, weights, cam_dir, tmp_path, capsys, format
):
    """Other codes' files may be refined: the score is that of the same maps in our format."""
    folder = write_seeds(pets_root, tmp_path / "cam", format)
    own = _infer(pets_root, weights, cam_dir, tmp_path / "own", score=None)
    capsys.readouterr()
    _infer(pets_root, weights, folder, tmp_path / "mask", score=None)
    why = "the seeds do not say whether they are refined; the released number is for a plain CAM's"
    said = capsys.readouterr().out
    assert f"background score: --bg_threshold auto, since {why}\n" in said
    scores = {read_mask_meta(path)["bg_threshold"] for path in (tmp_path / "mask").iterdir()}
    assert scores == {read_mask_meta(path)["bg_threshold"] for path in own.iterdir()}
    (score,) = scores
    assert score > RELEASED_BG_THRESHOLD
    assert f"background score chosen without masks: {score:.2f}" in said
    for path in own.iterdir():
        same = read_mask(path) == read_mask(tmp_path / "mask" / path.name)
        assert same.mean() > 0.999  # packed maps have steps of 1e-4


def test_a_chosen_score_needs_one_process(pets_root, weights, cam_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match=r"--bg_threshold auto, .* each of 2 processes has a part"):
        _infer(pets_root, weights, cam_dir, tmp_path / "mask", score=None)
    assert not list(tmp_path.iterdir())
