"""CAM files through the command line: what is in them, what is made again, and what flags
change.
"""

import argparse
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import train_cpn
from infer_cam import is_alone, main, parse_args
from network.build import build_cpn
from network.cam_inference import image_cam, predict_classes
from network.refiner import RefinedBy, Refiner
from network.weights import load_network, save_network
from tests.conftest import PETS
from tests.expansions import assert_made_of_the_entry
from tests.synthetic import write_voc_tree
from tool.errors import InputError
from tool.expand.crf import threshold_mask
from tool.file.cam_file import is_packed, load_cam, save_cam
from tool.file.checkpoint import save_torch
from tool.file.digests import file_digest
from tool.file.images import read_image, read_mask, write_image
from tool.losses import global_average
from tool.mask_values import voc_palette
from tool.run.device import LARGE
from tool.transforms import normalise, resize, to_tensor
from voc12.constants import DATA_HELP, IMAGE_DIR, LABEL_FILE, MASK_DIR
from voc12.labels import load_labels, save_labels
from voc12.training_list import load_training_list

CONFIG = {
    "backbone": "resnet10t",
    "num_classes": 3,
    "output_stride": None,
    "refinement": "pcm+prcm",
    "prcm": "released",
}
IDS = ("2007_000005", "2007_000006")  # the validation list


@pytest.fixture(scope="module")
def weights(small_net, tmp_path_factory):
    """Files of the same network, said to be trained with CPN, as the plain baseline, and with CPN
    without refinement.
    """
    folder = tmp_path_factory.mktemp("small")
    bare = CONFIG | {"method": "cpn", "refinement": "none"}
    save_network(folder / "bare.pth", small_net, bare, PETS, {})
    for method in ("cpn", "cam"):
        save_network(folder / f"{method}.pth", small_net, CONFIG | {"method": method}, PETS, {})
    return folder


def _args(root: Path, weights: Path, out: Path, *flags):
    words = [
        "--voc12_root",
        root,
        "--infer_list",
        "val",
        "--weights",
        weights,
        "--out_cam",
        out,
        "--num_workers",
        0,
    ]
    return parse_args(
        [str(word) for word in (*words, "--device", "cpu", "--scales", 0.5, 1, *flags)]
    )


def _infer(root: Path, weights: Path, out: Path, *flags) -> dict:
    """id -> CAM file, of the folder after the run."""
    main(_args(root, weights, out, *flags))
    return {path.stem: load_cam(path) for path in sorted(out.glob("*.np[yz]"))}


def _error(root: Path, weights: Path, out: Path, *flags) -> str:
    with pytest.raises(InputError) as error:
        main(_args(root, weights, out, *flags))
    return str(error.value)


@pytest.fixture(scope="module")
def made(pets_root, weights, tmp_path_factory):
    """The folder of the validation list's files, to be read only."""
    out = tmp_path_factory.mktemp("made")
    _infer(pets_root, weights / "cpn.pth", out)
    return out


# ============ labels ============
def test_mask_values_say_what_masks_show_as_labels(pets_root, weights, tmp_path):
    """Of masks whose palette has cat's and dog's colours exchanged, and no other labels."""
    root = shutil.copytree(pets_root, tmp_path / "data")
    (root / LABEL_FILE).unlink()
    palette = voc_palette().copy()
    palette[[1, 2]] = palette[[2, 1]]
    for path in (root / MASK_DIR).iterdir():
        with Image.open(path) as image:
            image.putpalette(palette.ravel().tolist())
            image.save(path)
    labels = load_labels(pets_root, IDS, PETS)
    for values, expected in (("ignore", labels), ("auto", labels[:, [1, 0, 2]])):
        made = _infer(root, weights / "cpn.pth", tmp_path / values, "--mask_values", values)
        for name, label in zip(IDS, expected, strict=True):
            assert made[name].keys.tolist() == np.flatnonzero(label).tolist()
    assert (labels[:, 0] != labels[:, 1]).any()
    args = ["--voc12_root", root, "--train_list", "val", "--batch_size", 1, "--num_workers", 0]
    args = train_cpn.parse_args([str(word) for word in [*args, "--mask_values", "ignore"]])
    found = train_cpn.load_image_labels(args, load_training_list(args))
    np.testing.assert_array_equal(found, labels)


# ============ flags ============
def test_released_command_line_is_accepted():
    words = (
        "--voc12_root V --infer_list voc12/train.txt --weights CPN.pth --network "
        "network.resnet38_contrast --out_cam out_cam --num_workers 8"
    )
    args = parse_args(words.split())
    assert (args.infer_list, args.weights, args.out_cam) == (
        "voc12/train.txt",
        "CPN.pth",
        "out_cam",
    )
    assert (tuple(args.scales), args.flip, args.cam, args.format) == (
        (0.5, 1.0, 1.5, 2.0),
        True,
        "auto",
        "packed",
    )


# ============ what is in the files ============
def test_files_hold_the_labelled_classes_at_the_size_of_the_image(made, pets_root, weights):
    assert sorted(path.name for path in made.iterdir()) == [f"{name}.npz" for name in IDS]
    for name in IDS:
        cam_file = load_cam(made / f"{name}.npz")
        image = read_image(pets_root / IMAGE_DIR / f"{name}.jpg")
        label = load_labels(pets_root, [name], PETS)[0]
        assert cam_file.id == name
        assert cam_file.keys.tolist() == np.flatnonzero(label).tolist()
        assert cam_file.size == image.shape[:2]
        assert cam_file.cam.shape == (len(cam_file.keys), *image.shape[:2])
        assert cam_file.meta == {
            "stage": "cam_refined",
            "method": "cpn",
            "backbone": "resnet10t",
            "weights": file_digest(weights / "cpn.pth"),
            "scales": [0.5, 1.0],
            "flip": True,
            "precision": "fp32",
            "exif": "apply",
            "classes": list(PETS),
            "photograph": file_digest(pets_root / IMAGE_DIR / f"{name}.jpg"),
        }


def _released_inference(net, image: np.ndarray, label: np.ndarray, scales) -> np.ndarray:
    """The released loop: passes one at a time at full size, all classes, numpy normalisation."""
    height, width = image.shape[:2]
    total = np.zeros((len(label), height, width))
    for scale in scales:
        scaled = to_tensor(
            normalise(resize(image, round(height * scale), round(width * scale)), net.mean, net.std)
        )[None]
        for flip in (False, True):
            with torch.no_grad():
                refined = net(scaled.flip(-1) if flip else scaled)[1]
            refined = F.interpolate(
                refined[:, 1:], (height, width), mode="bilinear", align_corners=False
            )[0].numpy()
            total += (refined[:, :, ::-1] if flip else refined) * label[:, None, None]
    total[total < 0] = 0
    high, low = total.max((1, 2), keepdims=True), total.min((1, 2), keepdims=True)
    total[total < low + 1e-5] = 0
    return ((total - low - 1e-5) / (high - low + 1e-5))[label > 0]


@pytest.mark.parametrize("name", IDS)
def test_files_match_the_released_loop(made, pets_root, small_net, name):
    label = load_labels(pets_root, [name], PETS)[0]
    expected = _released_inference(
        small_net, read_image(pets_root / IMAGE_DIR / f"{name}.jpg"), label, (0.5, 1)
    )
    np.testing.assert_allclose(load_cam(made / f"{name}.npz").cam, expected, atol=1e-4)


def test_mirrored_image_gives_the_mirrored_cam(small_net):
    generator = torch.Generator().manual_seed(0)
    scaled = [
        torch.randn(3, 48, 56, generator=generator),
        torch.randn(3, 96, 112, generator=generator),
    ]
    keys = torch.tensor([2, 0])

    def cam(images: list[torch.Tensor], refined: bool) -> np.ndarray:
        return image_cam(small_net, images, (50, 57), keys, refined, flip=True, precision="fp32")

    for refined in (False, True):
        plain, mirrored = cam(scaled, refined), cam([image.flip(-1) for image in scaled], refined)
        np.testing.assert_allclose(mirrored, plain[:, :, ::-1], atol=1e-4)
        assert np.abs(plain - plain[:, :, ::-1]).max() > 0.1


def test_single_pass_is_the_normalised_map_of_the_network(small_net):
    image = torch.randn(3, 40, 48, generator=torch.Generator().manual_seed(0))
    ours = image_cam(
        small_net, [image], (40, 48), torch.tensor([1]), refined=False, flip=False, precision="fp32"
    )
    with torch.no_grad():
        cam = small_net.forward_cam(image[None])[0, 2].relu().numpy()
    low, high = cam.min(), cam.max()
    expected = (np.where(cam < low + 1e-5, 0, cam) - low - 1e-5) / (high - low + 1e-5)
    np.testing.assert_allclose(ours[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["cpn", "cam", "bare"])
def test_stage_follows_the_network_unless_it_is_named(pets_root, weights, tmp_path, method):
    plain = _infer(pets_root, weights / f"{method}.pth", tmp_path / "plain", "--cam", "plain")
    assert {cam.meta["stage"] for cam in plain.values()} == {"cam"}
    auto = _infer(pets_root, weights / f"{method}.pth", tmp_path / "auto")
    assert {cam.meta["stage"] for cam in auto.values()} == {
        "cam_refined" if method == "cpn" else "cam"
    }
    same = all(np.array_equal(auto[name].cam, plain[name].cam) for name in IDS)
    assert same == (method != "cpn")


def test_other_modules_may_refine_than_in_training(pets_root, weights, tmp_path, small_net, made):
    changed = {
        flags: _infer(
            pets_root, weights / "cpn.pth", tmp_path / flags.replace(" ", "_"), *flags.split()
        )
        for flags in ("--refinement pcm", "--refinement prcm", "--prcm transposed")
    }
    maps = [
        np.concatenate([cam.cam.ravel() for cam in files.values()]) for files in changed.values()
    ]
    maps.append(np.concatenate([load_cam(made / f"{name}.npz").cam.ravel() for name in IDS]))
    assert all(not np.allclose(one, two) for index, one in enumerate(maps) for two in maps[:index])
    assert next(iter(changed["--refinement pcm"].values())).meta["refinement"] == "pcm"
    for flags in ("--refinement pcm", "--prcm transposed"):
        assert _error(pets_root, weights / "cam.pth", tmp_path / "none", *flags.split()).startswith(
            "--refinement and --prcm are for refined maps"
        )


def test_formats_hold_the_same_maps(pets_root, weights, made, tmp_path):
    for format in ("released", "irn"):
        for name, cam_file in _infer(
            pets_root, weights / "cpn.pth", tmp_path / format, "--format", format
        ).items():
            ours = load_cam(made / f"{name}.npz")
            assert cam_file.meta == {"format": format}
            np.testing.assert_array_equal(cam_file.keys, ours.keys)
            assert np.abs(cam_file.cam - ours.cam).max(initial=0) < 5.1e-5  # ours is packed


@pytest.mark.parametrize("num_workers", [1, 2])
def test_files_do_not_depend_on_the_number_of_workers(
    pets_root, weights, made, tmp_path, num_workers
):
    for name, cam_file in _infer(
        pets_root, weights / "cpn.pth", tmp_path, "--num_workers", num_workers
    ).items():
        np.testing.assert_array_equal(cam_file.cam, load_cam(made / f"{name}.npz").cam)


def test_files_do_not_depend_on_what_is_computed_beside_them(pets_root, weights, tmp_path, threads):
    """Two threads, so two images at once, and the same in one."""
    cams = {}
    for count in (1, 2):
        threads(count)
        folder = tmp_path / str(count)
        flags = ("--infer_list", "train_aug", "--num_workers", 0)
        cams[count] = _infer(pets_root, weights / "cpn.pth", folder, *flags)
    assert len(cams[1]) > 2
    for name, cam_file in cams[2].items():
        np.testing.assert_array_equal(cam_file.cam, cams[1][name].cam)


@pytest.mark.parametrize(
    ("affinity", "pixels", "expected"),
    [(None, 100, False), ("cosine", 100, False), ("attention", 100, True), (None, LARGE + 1, True)],
)
def test_large_images_and_recorded_attention_have_none_beside_them(affinity, pixels, expected):
    image = torch.empty(3, 1, 1).expand(3, pixels, 1)
    assert is_alone(argparse.Namespace(affinity=affinity), {"scaled": [image]}) == expected


def test_flip_and_scales_change_the_maps(pets_root, weights, made, tmp_path):
    for flags in (("--flip", "false"), ("--scales", "1.0"), ("--precision", "bf16")):
        cams = _infer(pets_root, weights / "cpn.pth", tmp_path / flags[0], *flags)
        assert any((cams[name].cam != load_cam(made / f"{name}.npz").cam).any() for name in IDS)


def test_image_without_a_class_gets_a_file_without_maps(weights, tmp_path):
    root = write_voc_tree(tmp_path / "pets", {"val": 2}, class_count=3, classes=PETS)
    save_labels(root / LABEL_FILE, ["2007_000000", "2007_000001"], np.array([[0, 0, 0], [0, 1, 0]]))
    cams = _infer(root, weights / "cpn.pth", tmp_path / "cam")
    assert cams["2007_000000"].cam.shape == (0, 60, 80)
    assert cams["2007_000001"].keys.tolist() == [1]


def test_overlays_are_written_for_each_class(pets_root, weights, tmp_path):
    cams = _infer(pets_root, weights / "cpn.pth", tmp_path / "cam", "--save_png", tmp_path / "png")
    expected = {f"{name}_{PETS[key]}.png" for name, cam in cams.items() for key in cam.keys}
    assert {path.name for path in (tmp_path / "png").iterdir()} == expected
    for name, cam_file in cams.items():
        with Image.open(tmp_path / "png" / f"{name}_{PETS[cam_file.keys[0]]}.png") as image:
            assert image.size == cam_file.size[::-1]


@pytest.mark.parametrize(
    ("names", "ends", "flags"),
    [
        (("mask", "cat", "dog"), ("mask_cam", "cat", "dog"), ()),
        (("mask", "confidence", "mask_cam"), ("mask_cam_cam", "confidence", "mask_cam"), ()),
        (
            ("mask", "confidence", "cat"),
            ("mask_cam", "confidence_cam", "cat"),
            ("--confidence",),
        ),
    ],
)
def test_a_class_called_as_another_output_keeps_both(
    names, ends, flags, pets_root, small_net, tmp_path, capsys
):
    save_network(tmp_path / "w.pth", small_net, CONFIG | {"method": "cpn"}, names, {})
    (tmp_path / "photo.jpg").write_bytes(photo(pets_root).read_bytes())
    out = tmp_path / "out"
    words = ["--image", tmp_path / "photo.jpg", "--weights", tmp_path / "w.pth"]
    words += ["--save_png", out, "--scales", 1, "--device", "cpu", "--min_score", 0, *flags]
    main(parse_args([str(word) for word in words]))
    overlays = [out / f"photo_{end}.png" for end in ends]
    assert ", ".join(map(str, overlays)) in capsys.readouterr().out
    assert {path.name for path in out.glob("*.png")} == {
        *(path.name for path in overlays),
        "photo_mask.png",
        *(["photo_confidence.png"] if flags else []),
    }
    assert all(Image.open(path).mode == "RGB" for path in overlays)
    assert Image.open(out / "photo_mask.png").mode == "P"


def test_one_overlay_of_two_images_of_a_list_is_refused(small_net, pets_root, tmp_path):
    names = ("b_c", "c", "d")
    save_network(tmp_path / "w.pth", small_net, CONFIG | {"method": "cpn"}, names, {})
    root = tmp_path / "data"
    (root / IMAGE_DIR).mkdir(parents=True)
    for name in ("a", "a_b"):
        (root / IMAGE_DIR / f"{name}.jpg").write_bytes(photo(pets_root).read_bytes())
    (root / "classes.txt").write_text("\n".join(names))
    (root / "list.txt").write_text("a\na_b\n")
    save_labels(tmp_path / "l.npy", ["a", "a_b"], np.array([[1, 0, 0], [0, 1, 0]]))
    words = ["--voc12_root", root, "--infer_list", root / "list.txt", "--labels"]
    words += [tmp_path / "l.npy", "--weights", tmp_path / "w.pth", "--out_cam", tmp_path / "cam"]
    words += ["--save_png", tmp_path / "png", "--device", "cpu", "--num_workers", 0]
    args = parse_args([str(word) for word in words])
    with pytest.raises(InputError) as error:
        main(args)
    assert str(error.value) == (
        "--save_png: of a and a_b the same overlay would be written, a_b_c.png; leave --save_png "
        "out, or give the two in lists of their own"
    )
    assert not (tmp_path / "png").exists()
    assert not (tmp_path / "cam").exists()


# ============ finished files ============
def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture
def aged(made, tmp_path):
    """A copy of the made files that are an hour old, and a function that says which of them a run
    wrote again.
    """
    out = tmp_path / "aged"
    out.mkdir()
    for path in made.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
        os.utime(out / path.name, ns=(0, 0))
    return out, lambda: {Path(name).stem for name, time in _times(out).items() if time != 0}


def test_finished_files_are_kept(aged, pets_root, weights, capsys):
    out, rewritten = aged
    main(_args(pets_root, weights / "cpn.pth", out))
    assert rewritten() == set()
    printed = capsys.readouterr()
    assert (
        "2 of 2 CAM files are there already, made with these weights and settings"
        in printed.out + printed.err
    )


def test_missing_and_damaged_files_are_made_again(aged, pets_root, weights, made):
    out, rewritten = aged
    path = out / f"{IDS[0]}.npz"
    path.write_bytes(path.read_bytes()[:-40])
    os.utime(path, ns=(0, 0))
    main(_args(pets_root, weights / "cpn.pth", out))
    assert rewritten() == {IDS[0]}
    (out / f"{IDS[1]}.npz").unlink()
    main(_args(pets_root, weights / "cpn.pth", out))
    assert rewritten() == set(IDS)
    for name in IDS:
        np.testing.assert_array_equal(
            load_cam(out / f"{name}.npz").cam, load_cam(made / f"{name}.npz").cam
        )


@pytest.mark.parametrize(
    "flags", [("--scales", 1), ("--flip", "false"), ("--cam", "plain"), ("--overwrite",)], ids=str
)
def test_files_of_other_settings_are_made_again(aged, pets_root, weights, flags):
    out, rewritten = aged
    main(_args(pets_root, weights / "cpn.pth", out, *flags))
    assert rewritten() == set(IDS)


def test_files_that_do_not_say_what_made_them_are_made_again(pets_root, weights, tmp_path):
    for format in ("released", "irn"):
        _infer(pets_root, weights / "cpn.pth", tmp_path / format, "--format", format)
        for path in (tmp_path / format).iterdir():
            os.utime(path, ns=(0, 0))
        _infer(
            pets_root, weights / "cam.pth", tmp_path / format, "--format", format, "--cam", "plain"
        )
        assert all(_times(tmp_path / format).values())


def test_files_of_other_weights_are_made_again(aged, pets_root, weights, tmp_path):
    out, rewritten = aged
    value = torch.load(weights / "cpn.pth", weights_only=True)
    value["state_dict"]["fc8.weight"] *= -1
    save_torch(tmp_path / "other.pth", value)
    main(_args(pets_root, tmp_path / "other.pth", out))
    assert rewritten() == set(IDS)


def test_files_are_of_the_entry_that_is_named(pets_root, weights, tmp_path):
    def infer(path, out, *flags):
        _infer(pets_root, path, out, *flags)
        return out / f"{IDS[0]}.npz"

    def meta_of(path):
        return load_cam(path).meta

    assert_made_of_the_entry(infer, weights / "cpn.pth", tmp_path / "cam", meta_of)
    words = (pets_root, tmp_path / "cam.pth", tmp_path / "cam", "--weights_key", "student")
    message = "--weights_key student: {} has the entries state_dict, ema"
    assert _error(*words) == message.format(tmp_path / "cam.pth")


def test_files_of_other_image_labels_are_made_again(aged, pets_root, weights, tmp_path):
    out, rewritten = aged
    labels = load_labels(pets_root, IDS, PETS)
    labels[1] = 1 - labels[1]
    save_labels(tmp_path / "labels.npy", IDS, labels)
    main(_args(pets_root, weights / "cpn.pth", out, "--labels", tmp_path / "labels.npy"))
    assert rewritten() == {IDS[1]}


# ============ single photographs ============
def test_predicted_classes_are_those_above_one_half_or_the_likeliest(small_net):
    image = torch.randn(3, 40, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probability = small_net.forward_cam(image[None])[0, 1:].mean(dim=(1, 2)).sigmoid()
    keys, scores = predict_classes(small_net, image)
    expected = torch.nonzero(probability > 0.5).flatten()
    assert keys.tolist() == (expected.tolist() or [int(probability.argmax())])
    torch.testing.assert_close(scores, probability[keys])


def test_photograph_without_label_gets_overlays_and_the_same_maps(
    pets_root, weights, made, tmp_path, capsys
):
    photograph = tmp_path / "photo.jpg"
    photograph.write_bytes((pets_root / IMAGE_DIR / f"{IDS[0]}.jpg").read_bytes())
    words = [
        "--image",
        str(photograph),
        "--weights",
        str(weights / "cpn.pth"),
        "--out_cam",
        str(tmp_path / "cam"),
    ]
    main(parse_args([*words, "--scales", "0.5", "1", "--device", "cpu"]))
    cam_file = load_cam(tmp_path / "cam" / "photo.npz")
    printed = capsys.readouterr().out
    for key in cam_file.keys:
        assert (tmp_path / f"photo_{PETS[key]}.png").is_file()
        assert PETS[key] in printed
    labelled = load_cam(made / f"{IDS[0]}.npz")
    for key in set(cam_file.keys.tolist()) & set(labelled.keys.tolist()):
        ours, theirs = (one.cam[one.keys.tolist().index(key)] for one in (cam_file, labelled))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture
def alone(pets_root, weights, tmp_path):
    """Runs infer_cam.py on one photograph with flags: the classes of its overlays, and its mask."""
    (tmp_path / "own").mkdir()
    for source, name in ((weights / "cpn.pth", "own/cpn.pth"), (photo(pets_root), "photo.jpg")):
        (tmp_path / name).write_bytes(source.read_bytes())

    def run(*flags):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        words = ["--image", tmp_path / "photo.jpg", "--weights", tmp_path / "own/cpn.pth"]
        words += ["--save_png", out, "--scales", 1, "--device", "cpu", "--confidence", *flags]
        main(parse_args([str(word) for word in words]))
        assert (out / "photo_confidence.png").is_file()
        named = {path.stem.removeprefix("photo_") for path in out.glob("*.png")}
        return named & set(PETS), read_mask(out / "photo_mask.png")

    return run


def photo(root):
    return root / IMAGE_DIR / f"{IDS[0]}.jpg"


def test_what_is_looked_for_and_from_which_score_on(alone, tmp_path, capsys):
    assert alone("--min_score", 0)[0] == set(PETS)
    assert alone("--min_score", 0, "--classes", "owl", "cat")[0] == {"cat", "owl"}
    assert len(alone("--classes", "dog")[0]) == 1  # the likeliest of those
    none, mask = alone("--min_score", 1)
    assert (none, mask.any()) == (set(), False)
    assert "photo.jpg: no class\n" in capsys.readouterr().out
    (tmp_path / "cut.json").write_text(
        json.dumps({"held_out": 9, "classes": {name: {"cut_off": name != "dog"} for name in PETS}})
    )
    with pytest.raises(InputError, match=r"cut\.json holds no cut-offs of classes .cut-off is no"):
        alone("--cut_offs", tmp_path / "cut.json")
    (tmp_path / "cut.json").write_text(
        json.dumps({"classes": {name: {"cut_off": int(name != "dog")} for name in PETS}})
    )
    assert alone("--cut_offs", tmp_path / "cut.json")[0] == {"dog"}
    # what masks_from_tags.py leaves beside the weights
    (tmp_path / "own/road.json").write_text(
        json.dumps({"min_score": {"cat": 0} | dict.fromkeys(PETS[1:], 1)})
    )
    assert alone()[0] == {"cat"}
    assert alone("--min_score", 0)[0] == set(PETS)


def test_classes_and_scores_that_fit_nothing_are_named(alone, pets_root, weights, tmp_path):
    with pytest.raises(InputError, match=r"--classes fish is none of .*pth's classes: cat, dog"):
        alone("--classes", "fish")
    (tmp_path / "cut.json").write_text(json.dumps({"min_score": {"cat": 0.5}}))
    with pytest.raises(InputError, match=r"cut\.json has no cut-off of dog; is it of"):
        alone("--cut_offs", tmp_path / "cut.json")
    message = _error(pets_root, weights / "cpn.pth", tmp_path / "cam", "--min_score", "0.5")
    assert message.startswith("--classes, --min_score and --cut_offs are for photographs given by")


# ============ messages ============
def test_missing_data_and_weights_are_named(pets_root, weights, tmp_path):
    assert (
        _error(tmp_path / "no", weights / "cpn.pth", tmp_path)
        == f"--voc12_root not found: {tmp_path / 'no'}; {DATA_HELP}"
    )
    assert _error(pets_root, tmp_path / "no.pth", tmp_path) == (
        f"trained weights not found: {tmp_path / 'no.pth'}; train with train_cpn.py, or set "
        "--weights FILE"
    )


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("cam", "--method cam, its refinement is untrained"),
        ("bare", "--refinement none, it has only plain maps"),
    ],
)
def test_untrained_refinement_is_refused(pets_root, weights, tmp_path, method, why):
    path = weights / f"{method}.pth"
    assert _error(pets_root, path, tmp_path, "--cam", "refined") == (
        f"--cam refined: {path} was trained with {why}; use --cam plain, name the untrained "
        "modules to use, e.g. --refinement pcm, or another network to refine by, --refiner NAME"
    )


def test_named_modules_refine_the_plain_baseline_untrained(pets_root, weights, tmp_path):
    plain = _infer(
        pets_root, weights / "cam.pth", tmp_path / "cam", "--cam", "refined", "--refinement", "pcm"
    )
    # the same layers
    cpn = _infer(pets_root, weights / "cpn.pth", tmp_path / "cpn", "--refinement", "pcm")
    for name in IDS:
        np.testing.assert_array_equal(plain[name].cam, cpn[name].cam)
    assert plain[IDS[0]].meta["method"] == "cam"
    assert plain[IDS[0]].meta["stage"] == "cam_refined"
    assert plain[IDS[0]].meta["refinement"] == "pcm"


def test_another_network_refines_the_plain_baseline(pets_root, weights, tmp_path):
    """--refiner: other maps than the plain ones, and the file says what refined them."""
    plain = _infer(pets_root, weights / "cam.pth", tmp_path / "plain")
    flags = ("--refiner", "resnet10t:8", "--refiner_weights", weights / "cam.pth")
    assert "were trained at stride 16, not at 8" in _error(
        pets_root, weights / "cam.pth", tmp_path / "no", *flags
    )
    flags = ("--refiner", "resnet10t", "--refiner_weights", weights / "cam.pth")
    refined = _infer(pets_root, weights / "cam.pth", tmp_path / "refined", *flags)
    own = _infer(pets_root, weights / "cam.pth", tmp_path / "own", "--affinity", "cosine")
    for name in IDS:
        assert not np.array_equal(refined[name].cam, plain[name].cam)
        # the other network is the same one here
        np.testing.assert_array_equal(refined[name].cam, own[name].cam)
    meta = refined[IDS[0]].meta
    assert (meta["stage"], meta["affinity"], meta["refiner"]) == (
        "cam_refined",
        "cosine",
        "resnet10t",
    )
    assert meta["refiner_weights"] == file_digest(weights / "cam.pth")
    assert "refiner" not in own[IDS[0]].meta


def test_attention_of_a_transformer_refines(pets_root, tmp_path):
    torch.manual_seed(0)
    config = {"backbone": "vit_tiny_patch16_224", "num_classes": 3}
    save_network(tmp_path / "vit.pth", build_cpn(**config), config | {"method": "cam"}, PETS, {})
    flags = ("--affinity", "attention", "--attention_blocks", -1, -2)
    files = _infer(pets_root, tmp_path / "vit.pth", tmp_path / "cam", *flags)
    assert files[IDS[0]].meta["attention_blocks"] == [-1, -2]
    image = read_image(pets_root / IMAGE_DIR / f"{IDS[0]}.jpg")
    net = load_network(tmp_path / "vit.pth")[0]
    height, width = image.shape[:2]
    scaled = [
        to_tensor(normalise(resize(image, round(height * s), round(width * s)), net.mean, net.std))
        for s in (0.5, 1.0)
    ]
    expected = image_cam(
        RefinedBy(net, Refiner(net, "attention", [-1, -2])),
        scaled,
        image.shape[:2],
        torch.from_numpy(files[IDS[0]].keys),
        True,
        True,
        "fp32",
    )
    np.testing.assert_allclose(files[IDS[0]].cam, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--refiner_weights", "a.pth"), "--refiner_weights names no network; say whose they are"),
        (("--attention_blocks", 0), "--attention_blocks is for --affinity attention; set that"),
        (("--refiner", "resnet10t", "--cam", "plain"), "--affinity and --refiner make refined"),
        (
            ("--affinity", "cosine", "--refinement", "pcm"),
            "--affinity and --refiner take the place of PCM and PRCM",
        ),
        (("--affinity", "attention"), "--affinity attention: resnet10t has no self-attention"),
    ],
)
def test_affinity_flags_that_have_nothing_to_work_on(pets_root, weights, tmp_path, flags, message):
    assert _error(pets_root, weights / "cpn.pth", tmp_path, *flags).startswith(message)


def test_a_replaced_photograph_gets_a_new_cam(pets_root, weights, tmp_path):
    root, out = shutil.copytree(pets_root, tmp_path / "data"), tmp_path / "cam"
    before = _infer(root, weights / "cpn.pth", out)
    shutil.copy(root / IMAGE_DIR / f"{IDS[1]}.jpg", root / IMAGE_DIR / f"{IDS[0]}.jpg")
    changed = [(out / f"{name}.npz").stat().st_mtime_ns for name in IDS]
    after = _infer(root, weights / "cpn.pth", out)
    assert not np.array_equal(before[IDS[0]].cam, after[IDS[0]].cam)
    assert [
        (out / f"{name}.npz").stat().st_mtime_ns != time
        for name, time in zip(IDS, changed, strict=True)
    ] == [True, False]
    older = after[IDS[0]]
    save_cam(
        out,
        replace(
            older, meta={key: value for key, value in older.meta.items() if key != "photograph"}
        ),
    )
    time = (out / f"{IDS[0]}.npz").stat().st_mtime_ns
    _infer(root, weights / "cpn.pth", out)
    assert (out / f"{IDS[0]}.npz").stat().st_mtime_ns == time  # of before photographs were named


def test_overlays_of_finished_files_are_written(pets_root, weights, tmp_path):
    _infer(pets_root, weights / "cpn.pth", tmp_path / "cam")
    _infer(pets_root, weights / "cpn.pth", tmp_path / "cam", "--save_png", tmp_path / "late")
    _infer(pets_root, weights / "cpn.pth", tmp_path / "new", "--save_png", tmp_path / "png")
    files = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "late").iterdir())
    for name in files:  # the late ones are of packed maps
        at_once, late = (read_image(tmp_path / way / name).astype(int) for way in ("png", "late"))
        assert np.abs(at_once - late).max() <= 4


def _other_weights(weights: Path, path: Path) -> Path:
    value = torch.load(weights, weights_only=True)
    value["state_dict"]["fc8.weight"] *= -1
    save_torch(path, value)
    return path


def _pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_overlays_of_earlier_files_are_drawn_again(pets_root, weights, tmp_path):
    png, out = tmp_path / "png", tmp_path / "cam"
    other = _other_weights(weights / "cpn.pth", tmp_path / "other.pth")
    _infer(pets_root, other, tmp_path / "expected", "--save_png", tmp_path / "expected_png")
    expected = _pictures(tmp_path / "expected_png")
    _infer(pets_root, weights / "cpn.pth", out, "--save_png", png)
    before = _pictures(png)
    assert all(before[name] != expected[name] for name in expected)
    _infer(pets_root, other, out)  # without overlays
    _infer(pets_root, other, out, "--save_png", png)
    late = {name: _pixels_of(png / name) for name in expected}
    for name, pixels in late.items():  # of packed maps
        assert np.abs(pixels - _pixels_of(tmp_path / "expected_png" / name)).max() <= 4
    times = _times(png)
    _infer(pets_root, other, out, "--save_png", png)
    assert _times(png) == times
    for name in expected:  # of before they said of what they are
        write_image(png / name, np.zeros((4, 4, 3), np.uint8))
    _infer(pets_root, other, out, "--save_png", png)
    assert all(np.array_equal(_pixels_of(png / name), late[name]) for name in expected)


def _pixels_of(path: Path) -> np.ndarray:
    return read_image(path).astype(int)


def test_overlays_of_classes_that_an_image_has_no_longer_go(pets_root, weights, tmp_path):
    root, png = shutil.copytree(pets_root, tmp_path / "data"), tmp_path / "png"
    labels = load_labels(root, IDS, PETS)
    _infer(root, weights / "cpn.pth", tmp_path / "cam", "--save_png", png)
    write_image(png / "by hand.png", np.zeros((4, 4, 3), np.uint8))
    gone = [PETS[key] for key in np.flatnonzero(labels[0] == 0)]
    write_image(png / f"{IDS[0]}_{gone[0]}.png", np.zeros((4, 4, 3), np.uint8))  # nobody's
    write_image(png / f"{IDS[1]}.png", np.zeros((4, 4, 3), np.uint8), {"id": "another"})
    save_labels(tmp_path / "other.npy", list(IDS), 1 - labels)
    flags = ("--labels", tmp_path / "other.npy", "--save_png", png)
    _infer(root, weights / "cpn.pth", tmp_path / "cam", *flags)
    shown = {
        f"{name}_{PETS[key]}.png"
        for name, row in zip(IDS, labels, strict=True)
        for key in np.flatnonzero(row == 0)
    }
    assert {path.name for path in png.iterdir()} == shown | {"by hand.png", f"{IDS[1]}.png"}


def test_float32_files_are_exact_and_made_where_packed_ones_lie(pets_root, weights, tmp_path):
    packed = _infer(pets_root, weights / "cpn.pth", tmp_path)
    assert is_packed(tmp_path / f"{IDS[0]}.npz")
    exact = _infer(pets_root, weights / "cpn.pth", tmp_path, "--format", "npz")
    assert not is_packed(tmp_path / f"{IDS[0]}.npz")
    released = _infer(pets_root, weights / "cpn.pth", tmp_path / "half", "--format", "released")
    for name in IDS:
        np.testing.assert_array_equal(exact[name].cam, released[name].cam)
        assert exact[name].meta == packed[name].meta
    time = (tmp_path / f"{IDS[0]}.npz").stat().st_mtime_ns
    _infer(pets_root, weights / "cpn.pth", tmp_path)
    assert (tmp_path / f"{IDS[0]}.npz").stat().st_mtime_ns == time  # float32 serves as well


def test_maps_without_response_are_counted(pets_root, weights, tmp_path, capsys):
    value = torch.load(weights / "cpn.pth", weights_only=True)
    value["state_dict"]["fc8.weight"].zero_()
    save_torch(tmp_path / "dead.pth", value)
    made = _infer(pets_root, tmp_path / "dead.pth", tmp_path / "cam")
    count = sum(len(cam_file.keys) for cam_file in made.values())
    assert f"note: {count} of {count} new maps respond nowhere" in capsys.readouterr().out


def test_every_missing_photograph_is_counted(pets_root, weights, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    for name in IDS:
        (root / IMAGE_DIR / f"{name}.jpg").unlink()
    message = _error(root, weights / "cpn.pth", tmp_path / "cam")
    assert message.startswith(
        f"2 of 2 images of val lack a file; the first: no image for id {IDS[0]}"
    )


def test_data_of_other_classes_are_named(pets_root, weights, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    (root / "classes.txt").write_text("\n".join(reversed(PETS)))
    assert _error(root, weights / "cpn.pth", tmp_path / "cam") == (
        f"{root / 'classes.txt'} says {', '.join(PETS[::-1])} ..., {weights / 'cpn.pth'} "
        f"{', '.join(PETS)} ..."
    )


def test_data_of_another_class_count_is_named(voc_root, weights, tmp_path):
    message = _error(voc_root, weights / "cpn.pth", tmp_path)
    assert (
        message
        == f"{voc_root / LABEL_FILE}: the label of 2007_000000 has shape (20,), the class list has "
        "3 names"
    )


def test_weights_that_diverged_write_no_file(pets_root, weights, tmp_path):
    value = torch.load(weights / "cpn.pth", weights_only=True)
    value["state_dict"]["fc8.weight"][0] = torch.inf
    save_torch(tmp_path / "bad.pth", value)
    assert "fc8.weight has values that are not finite" in _error(
        pets_root, tmp_path / "bad.pth", tmp_path / "cam"
    )
    assert not (tmp_path / "cam").exists()


def test_photographs_of_one_stem_get_files_of_their_own(pets_root, weights, tmp_path):
    source = pets_root / IMAGE_DIR / f"{IDS[0]}.jpg"
    (tmp_path / "x.jpg").write_bytes(source.read_bytes())
    Image.open(source).save(tmp_path / "x.png")
    out = tmp_path / "out"
    words = ["--weights", weights / "cpn.pth", "--image", tmp_path / "x.jpg", tmp_path / "x.png"]
    words += ["--save_png", out, "--out_cam", out, "--device", "cpu", "--scales", 1]
    words += ["--long_side", 40, "--confidence"]
    main(parse_args([str(word) for word in words]))
    size = read_image(source).shape[:2]
    for name in ("x.jpg", "x.png"):
        cam_file = load_cam(out / f"{name}.npz")
        assert (cam_file.id, cam_file.size, cam_file.meta["long_side"]) == (name, size, 40)
        expected = threshold_mask(cam_file.cam, cam_file.keys, 0.5)
        np.testing.assert_array_equal(read_mask(out / f"{name}_mask.png"), expected)
        scores = json.loads((out / f"{name}_scores.json").read_text())
        assert list(scores) == list(PETS)
        confidence = np.asarray(Image.open(out / f"{name}_confidence.png")) / 255
        assert (confidence[expected > 0] >= 0.5 - 1 / 255).all()


def test_scores_of_a_list(pets_root, weights, tmp_path):
    """The probabilities of the whole images as they are, of all classes, and no CAM file."""
    path, out = tmp_path / "scores.json", tmp_path / "cam"
    main(_args(pets_root, weights / "cpn.pth", out, "--scores", path))
    scores = json.loads(path.read_text())
    assert list(scores) == list(IDS)
    assert not out.exists()
    net, _, _ = load_network(weights / "cpn.pth", PETS)
    for name, found in scores.items():
        image = read_image(pets_root / IMAGE_DIR / f"{name}.jpg")
        cam = net.cam_and_features(to_tensor(normalise(image, net.mean, net.std))[None])[0]
        expected = global_average(cam, image.shape[:2])[0].sigmoid()
        assert list(found) == list(PETS)
        assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert "--scores is for a list" in _error(
        pets_root, weights / "cpn.pth", out, "--image", tmp_path, "--scores", path
    )
