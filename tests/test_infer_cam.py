"""CAM files through the command line: what is in them, what is made again, and what flags change."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from infer_cam import image_cam, main, parse_args, predict_classes
from network.weights import save_network
from tests.conftest import PETS
from tests.synthetic import write_voc_tree
from tool.cam_file import load_cam, save_cam
from tool.checkpoint import save_torch
from tool.errors import InputError
from tool.files import file_digest
from tool.images import read_image
from tool.transforms import normalise, resize, to_tensor
from voc12.constants import DATA_HELP, IMAGE_DIR, LABEL_FILE
from voc12.labels import load_labels, save_labels

CONFIG = {"backbone": "resnet10t", "num_classes": 3, "output_stride": None, "refinement": "pcm+prcm", "prcm": "released"}
IDS = ("2007_000005", "2007_000006")  # the validation list


@pytest.fixture(scope="module")
def weights(small_net, tmp_path_factory):
    """Files of the same network, said to be trained with CPN and as the plain baseline."""
    folder = tmp_path_factory.mktemp("small")
    for method in ("cpn", "cam"):
        save_network(folder / f"{method}.pth", small_net, CONFIG | {"method": method}, PETS, {})
    return folder


def _args(root: Path, weights: Path, out: Path, *flags):
    words = ["--voc12_root", root, "--infer_list", "val", "--weights", weights, "--out_cam", out, "--num_workers", 0]
    return parse_args([str(word) for word in (*words, "--device", "cpu", "--scales", 0.5, 1, *flags)])


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


# ============ flags ============
def test_released_command_line_is_accepted():
    words = (
        "--voc12_root V --infer_list voc12/train.txt --weights CPN.pth --network network.resnet38_contrast --out_cam out_cam "
        "--num_workers 8"
    )
    args = parse_args(words.split())
    assert (args.infer_list, args.weights, args.out_cam) == ("voc12/train.txt", "CPN.pth", "out_cam")
    assert (tuple(args.scales), args.flip, args.cam, args.format) == ((0.5, 1.0, 1.5, 2.0), True, "auto", "npz")


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
            "classes": list(PETS),
            "photograph": file_digest(pets_root / IMAGE_DIR / f"{name}.jpg"),
        }


def _released_inference(net, image: np.ndarray, label: np.ndarray, scales) -> np.ndarray:
    """The released loop: passes one at a time at full size, all classes, numpy normalisation."""
    height, width = image.shape[:2]
    total = np.zeros((len(label), height, width))
    for scale in scales:
        scaled = to_tensor(normalise(resize(image, round(height * scale), round(width * scale)), net.mean, net.std))[None]
        for flip in (False, True):
            with torch.no_grad():
                refined = net(scaled.flip(-1) if flip else scaled)[1]
            refined = F.interpolate(refined[:, 1:], (height, width), mode="bilinear", align_corners=False)[0].numpy()
            total += (refined[:, :, ::-1] if flip else refined) * label[:, None, None]
    total[total < 0] = 0
    high, low = total.max((1, 2), keepdims=True), total.min((1, 2), keepdims=True)
    total[total < low + 1e-5] = 0
    return ((total - low - 1e-5) / (high - low + 1e-5))[label > 0]


@pytest.mark.parametrize("name", IDS)
def test_files_match_the_released_loop(made, pets_root, small_net, name):
    label = load_labels(pets_root, [name], PETS)[0]
    expected = _released_inference(small_net, read_image(pets_root / IMAGE_DIR / f"{name}.jpg"), label, (0.5, 1))
    np.testing.assert_allclose(load_cam(made / f"{name}.npz").cam, expected, atol=1e-4)


def test_mirrored_image_gives_the_mirrored_cam(small_net):
    generator = torch.Generator().manual_seed(0)
    scaled = [torch.randn(3, 48, 56, generator=generator), torch.randn(3, 96, 112, generator=generator)]
    keys = torch.tensor([2, 0])

    def cam(images: list[torch.Tensor], refined: bool) -> np.ndarray:
        return image_cam(small_net, images, (50, 57), keys, refined, flip=True, precision="fp32")

    for refined in (False, True):
        plain, mirrored = cam(scaled, refined), cam([image.flip(-1) for image in scaled], refined)
        np.testing.assert_allclose(mirrored, plain[:, :, ::-1], atol=1e-4)
        assert np.abs(plain - plain[:, :, ::-1]).max() > 0.1


def test_single_pass_is_the_normalised_map_of_the_network(small_net):
    image = torch.randn(3, 40, 48, generator=torch.Generator().manual_seed(0))
    ours = image_cam(small_net, [image], (40, 48), torch.tensor([1]), refined=False, flip=False, precision="fp32")
    with torch.no_grad():
        cam = small_net.forward_cam(image[None])[0, 2].relu().numpy()
    low, high = cam.min(), cam.max()
    expected = (np.where(cam < low + 1e-5, 0, cam) - low - 1e-5) / (high - low + 1e-5)
    np.testing.assert_allclose(ours[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["cpn", "cam"])
def test_stage_follows_the_method_unless_it_is_named(pets_root, weights, tmp_path, method):
    plain = _infer(pets_root, weights / f"{method}.pth", tmp_path / "plain", "--cam", "plain")
    assert {cam.meta["stage"] for cam in plain.values()} == {"cam"}
    auto = _infer(pets_root, weights / f"{method}.pth", tmp_path / "auto")
    assert {cam.meta["stage"] for cam in auto.values()} == {"cam_refined" if method == "cpn" else "cam"}
    same = all(np.array_equal(auto[name].cam, plain[name].cam) for name in IDS)
    assert same == (method == "cam")


def test_other_modules_may_refine_than_in_training(pets_root, weights, tmp_path, small_net, made):
    changed = {
        flags: _infer(pets_root, weights / "cpn.pth", tmp_path / flags.replace(" ", "_"), *flags.split())
        for flags in ("--refinement pcm", "--refinement prcm", "--prcm transposed")
    }
    maps = [np.concatenate([cam.cam.ravel() for cam in files.values()]) for files in changed.values()]
    maps.append(np.concatenate([load_cam(made / f"{name}.npz").cam.ravel() for name in IDS]))
    assert all(not np.allclose(one, two) for index, one in enumerate(maps) for two in maps[:index])
    assert next(iter(changed["--refinement pcm"].values())).meta["refinement"] == "pcm"
    for flags in ("--refinement pcm", "--prcm transposed"):
        assert _error(pets_root, weights / "cam.pth", tmp_path / "none", *flags.split()).startswith(
            "--refinement and --prcm are for refined maps"
        )


def test_formats_hold_the_same_maps(pets_root, weights, made, tmp_path):
    for format in ("released", "irn"):
        for name, cam_file in _infer(pets_root, weights / "cpn.pth", tmp_path / format, "--format", format).items():
            ours = load_cam(made / f"{name}.npz")
            assert cam_file.meta == {"format": format}
            np.testing.assert_array_equal(cam_file.keys, ours.keys)
            np.testing.assert_array_equal(cam_file.cam, ours.cam)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_files_do_not_depend_on_the_number_of_workers(pets_root, weights, made, tmp_path, num_workers):
    for name, cam_file in _infer(pets_root, weights / "cpn.pth", tmp_path, "--num_workers", num_workers).items():
        np.testing.assert_array_equal(cam_file.cam, load_cam(made / f"{name}.npz").cam)


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


# ============ finished files ============
def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture
def aged(made, tmp_path):
    """A copy of the made files that are an hour old, and a function that says which of them a run wrote again."""
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
    assert "2 of 2 CAM files are there already, made with these weights and settings" in printed.out + printed.err


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
        np.testing.assert_array_equal(load_cam(out / f"{name}.npz").cam, load_cam(made / f"{name}.npz").cam)


@pytest.mark.parametrize("flags", [("--scales", 1), ("--flip", "false"), ("--cam", "plain"), ("--overwrite",)], ids=str)
def test_files_of_other_settings_are_made_again(aged, pets_root, weights, flags):
    out, rewritten = aged
    main(_args(pets_root, weights / "cpn.pth", out, *flags))
    assert rewritten() == set(IDS)


def test_files_that_do_not_say_what_made_them_are_made_again(pets_root, weights, tmp_path):
    for format in ("released", "irn"):
        _infer(pets_root, weights / "cpn.pth", tmp_path / format, "--format", format)
        for path in (tmp_path / format).iterdir():
            os.utime(path, ns=(0, 0))
        _infer(pets_root, weights / "cam.pth", tmp_path / format, "--format", format, "--cam", "plain")
        assert all(_times(tmp_path / format).values())


def test_files_of_other_weights_are_made_again(aged, pets_root, weights, tmp_path):
    out, rewritten = aged
    value = torch.load(weights / "cpn.pth", weights_only=True)
    value["state_dict"]["fc8.weight"] *= -1
    save_torch(tmp_path / "other.pth", value)
    main(_args(pets_root, tmp_path / "other.pth", out))
    assert rewritten() == set(IDS)


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


def test_photograph_without_label_gets_overlays_and_the_same_maps(pets_root, weights, made, tmp_path, capsys):
    photograph = tmp_path / "photo.jpg"
    photograph.write_bytes((pets_root / IMAGE_DIR / f"{IDS[0]}.jpg").read_bytes())
    words = ["--image", str(photograph), "--weights", str(weights / "cpn.pth"), "--out_cam", str(tmp_path / "cam")]
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


# ============ messages ============
def test_missing_data_and_weights_are_named(pets_root, weights, tmp_path):
    assert _error(tmp_path / "no", weights / "cpn.pth", tmp_path) == f"--voc12_root not found: {tmp_path / 'no'}; {DATA_HELP}"
    assert _error(pets_root, tmp_path / "no.pth", tmp_path) == (
        f"trained weights not found: {tmp_path / 'no.pth'}; train with train_cpn.py, or set --weights FILE"
    )


def test_untrained_refinement_is_refused(pets_root, weights, tmp_path):
    assert _error(pets_root, weights / "cam.pth", tmp_path, "--cam", "refined") == (
        f"--cam refined: {weights / 'cam.pth'} was trained with --method cam, its refinement is untrained; use --cam plain, or name "
        "the untrained modules to use, e.g. --refinement pcm"
    )


def test_named_modules_refine_the_plain_baseline_untrained(pets_root, weights, tmp_path):
    plain = _infer(pets_root, weights / "cam.pth", tmp_path / "cam", "--cam", "refined", "--refinement", "pcm")
    cpn = _infer(pets_root, weights / "cpn.pth", tmp_path / "cpn", "--refinement", "pcm")  # the same layers
    for name in IDS:
        np.testing.assert_array_equal(plain[name].cam, cpn[name].cam)
    assert plain[IDS[0]].meta["method"] == "cam"
    assert plain[IDS[0]].meta["stage"] == "cam_refined"
    assert plain[IDS[0]].meta["refinement"] == "pcm"


def test_a_replaced_photograph_gets_a_new_cam(pets_root, weights, tmp_path):
    root, out = shutil.copytree(pets_root, tmp_path / "data"), tmp_path / "cam"
    before = _infer(root, weights / "cpn.pth", out)
    shutil.copy(root / IMAGE_DIR / f"{IDS[1]}.jpg", root / IMAGE_DIR / f"{IDS[0]}.jpg")
    changed = [(out / f"{name}.npz").stat().st_mtime_ns for name in IDS]
    after = _infer(root, weights / "cpn.pth", out)
    assert not np.array_equal(before[IDS[0]].cam, after[IDS[0]].cam)
    assert [(out / f"{name}.npz").stat().st_mtime_ns != time for name, time in zip(IDS, changed, strict=True)] == [True, False]
    older = after[IDS[0]]
    save_cam(out, replace(older, meta={key: value for key, value in older.meta.items() if key != "photograph"}))
    time = (out / f"{IDS[0]}.npz").stat().st_mtime_ns
    _infer(root, weights / "cpn.pth", out)
    assert (out / f"{IDS[0]}.npz").stat().st_mtime_ns == time  # of before photographs were named


def test_overlays_of_finished_files_are_written(pets_root, weights, tmp_path):
    _infer(pets_root, weights / "cpn.pth", tmp_path / "cam")
    _infer(pets_root, weights / "cpn.pth", tmp_path / "cam", "--save_png", tmp_path / "late")
    _infer(pets_root, weights / "cpn.pth", tmp_path / "new", "--save_png", tmp_path / "png")
    files = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "late").iterdir())
    assert all((tmp_path / "png" / name).read_bytes() == (tmp_path / "late" / name).read_bytes() for name in files)


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
    assert message.startswith(f"2 of 2 images of val lack a file; the first: no image for id {IDS[0]}")


def test_photographs_of_one_name_are_refused(weights, tmp_path):
    words = ["--weights", weights / "cpn.pth", "--image", "a/p.jpg", "b/p.jpg", "--save_png", tmp_path, "--device", "cpu"]
    with pytest.raises(InputError, match="--image has two photographs named p, whose files would be the same"):
        main(parse_args([str(word) for word in words]))


def test_data_of_other_classes_are_named(pets_root, weights, tmp_path):
    root = shutil.copytree(pets_root, tmp_path / "data")
    (root / "classes.txt").write_text("\n".join(reversed(PETS)))
    assert _error(root, weights / "cpn.pth", tmp_path / "cam") == (
        f"{root / 'classes.txt'} says {', '.join(PETS[::-1])} ..., {weights / 'cpn.pth'} {', '.join(PETS)} ..."
    )


def test_data_of_another_class_count_is_named(voc_root, weights, tmp_path):
    message = _error(voc_root, weights / "cpn.pth", tmp_path)
    assert message == f"{voc_root / LABEL_FILE}: the label of 2007_000004 has shape (20,), the class list has 3 names"


def test_weights_that_diverged_write_no_file(pets_root, weights, tmp_path):
    value = torch.load(weights / "cpn.pth", weights_only=True)
    value["state_dict"]["fc8.weight"][0] = torch.inf
    save_torch(tmp_path / "bad.pth", value)
    assert "fc8.weight has values that are not finite" in _error(pets_root, tmp_path / "bad.pth", tmp_path / "cam")
    assert not (tmp_path / "cam").exists()
