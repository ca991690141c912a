"""Seeds of other codes go through every later stage with the numbers of our own files."""

import argparse
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import evaluation_cam
import make_crf
import make_masks
import report
import stage_table
from tests.seeds import seed_of, write_seeds
from tool.errors import InputError
from tool.expand.crf import named_settings
from tool.file.cam_file import PHOTOGRAPH, load_cam, save_cam
from tool.file.digests import file_digest
from tool.file.images import read_image, read_mask, read_mask_meta, write_image, write_mask
from tool.run.notes import forget_notes
from voc12.cam_folder import (
    open_cam_folder,
    require_masks_of_same_photographs,
    require_same_photographs,
)
from voc12.class_list import load_class_list
from voc12.constants import LABEL_FILE, MASK_DIR
from voc12.evaluation import evaluate_cams, evaluate_masks
from voc12.expansion_data import SeedSet
from voc12.expansion_labels import (
    AffinityScores,
    ConfidentLabels,
    load_scores,
    make_labels,
    open_seeds,
)
from voc12.lists import image_path, load_ids
from voc12.seg_data import find_masks
from voc12.threshold_choice import choose_threshold

LAYOUTS = {
    "unit": lambda keys, maps: dict(zip(keys.tolist(), maps, strict=True)),
    "hr_cam": lambda keys, maps: {"keys": np.concatenate([[0], keys + 1]), "hr_cam": maps},
    "attn_highres": lambda keys, maps: {"keys": keys.tolist(), "attn_highres": maps},
}


@pytest.fixture(scope="module")
def own(pets_root, tmp_path_factory) -> Path:
    return write_seeds(pets_root, tmp_path_factory.mktemp("own") / "cam")


@pytest.fixture(scope="module", params=LAYOUTS)
def foreign(request, pets_root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / request.param
    folder.mkdir()
    for list_name in ("train", "val"):
        for name in load_ids(pets_root, list_name):
            seed = seed_of(pets_root, name)
            outer = np.empty((), dtype=object)
            outer[()] = LAYOUTS[request.param](seed.keys, seed.cam)
            np.save(folder / f"{name}.npy", outer)
    return folder


def _open(root, folder, cam_format="auto"):
    return open_cam_folder(folder, cam_format, root, load_ids(root, "train"), load_class_list(root))


def _words(*words):
    return [str(word) for word in words]


def test_evaluation_with_and_without_crf(pets_root, own, foreign, tmp_path):
    def numbers(folder, *flags):
        where = ("--voc12_root", pets_root, "--list", "train", "--predict_dir", folder)
        words = _words(*where, "--num_workers", 1, "--json", tmp_path / "e.json", *flags)
        evaluation_cam.main(evaluation_cam.parse_args(words))
        found = json.loads((tmp_path / "e.json").read_text())
        return {name: value for name, value in found.items() if name != "stage"}

    for flags in ((), ("--t", "auto"), ("--crf", "irn")):
        assert numbers(foreign, *flags) == numbers(own, *flags)


def test_crf_and_masks(pets_root, own, foreign, tmp_path):
    list_flags = ("--voc12_root", pets_root, "--infer_list", "train", "--num_workers", 1)
    for folder in (own, foreign):
        out = tmp_path / folder.name
        words = (
            *list_flags,
            "--cam_dir",
            folder,
            "--out_cam",
            out / "crf",
            "--out_mask",
            out / "m",
        )
        make_crf.main(make_crf.parse_args(_words(*words)))
        words = (*list_flags, "--cam_dir", folder, "--t", "0.4", "--out_mask", out / "masks")
        make_masks.main(make_masks.parse_args(_words(*words)))
    for name in load_ids(pets_root, "train"):
        for made in ("m", "masks"):
            paths = [tmp_path / folder.name / made / f"{name}.png" for folder in (own, foreign)]
            assert (read_mask(paths[0]) == read_mask(paths[1])).all()
        assert read_mask_meta(paths[1])["cam_format"] == foreign.name


def test_labels_and_samples_of_the_second_expansion(pets_root, own, foreign, tmp_path):
    ids, classes = load_ids(pets_root, "train"), load_class_list(pets_root)
    crf = named_settings("irn")
    samples = {}
    for folder in (own, foreign):
        cams, labels = _open(pets_root, folder), tmp_path / folder.name
        confident = ConfidentLabels(pets_root, folder, labels, classes, 0.3, 0.05, crf, cams)
        scores = AffinityScores(pets_root, folder, labels, classes, 4, 24, crf, cams)
        for maker in (confident, scores):
            make_labels(maker, ids, num_workers=1)
        data = SeedSet(
            pets_root, ids, folder, labels / "m", {}, classes, (0, 0, 0), (1, 1, 1), cams=cams
        )
        samples[folder] = [data[index] for index in range(len(ids))]
    for name in ids:
        ours, theirs = (tmp_path / folder.name / name for folder in (own, foreign))
        masks = [read_mask(path.with_suffix(".png")) for path in (ours, theirs)]
        assert (masks[0] == masks[1]).all()
        found = [load_scores(path.with_suffix(".npz")) for path in (ours, theirs)]
        assert (found[0][0] == found[1][0]).all()
        assert (found[0][1] == found[1][1]).all()
    for a, b in zip(samples[own], samples[foreign], strict=True):
        assert (a["cam"] == b["cam"]).all()
        assert (a["keys"] == b["keys"]).all()


def test_the_threshold_without_masks(pets_root, own, foreign):
    ids = load_ids(pets_root, "train")
    load = _open(pets_root, foreign).load
    assert choose_threshold(pets_root, ids, foreign, load=load) == choose_threshold(
        pets_root, ids, own
    )


def test_the_page(pets_root, own, foreign, tmp_path):
    pages = []
    for folder in (own, foreign):
        where = ("--voc12_root", pets_root, "--list", "train", "--num_workers", 1)
        out = ("--refined_dir", folder, "--out", tmp_path / "page.html", "--title", "t")
        report.main(report.parse_args(_words(*where, *out)))
        text = (tmp_path / "page.html").read_text()
        pages.append(text.replace(str(folder), "").replace(f"unnamed ({foreign.name} files)", ""))
    assert pages[0].replace("cam_refined", "") == pages[1]


def test_files_read_in_another_way_are_made_again(pets_root, tmp_path):
    ids, classes = load_ids(pets_root, "train"), load_class_list(pets_root)
    folder = tmp_path / "cam"
    folder.mkdir()
    for name in ids:
        seed = seed_of(pets_root, name)
        outer = np.empty((), dtype=object)
        outer[()] = {int(key): map_ / 2 for key, map_ in zip(seed.keys, seed.cam, strict=True)}
        np.save(folder / f"{name}.npy", outer)
    masks = []
    for cam_format in ("released", "unit"):
        words = ("--voc12_root", pets_root, "--infer_list", "train", "--num_workers", 1)
        words = (*words, "--cam_dir", folder, "--cam_format", cam_format, "--t", "0.6")
        make_masks.main(make_masks.parse_args(_words(*words, "--out_mask", tmp_path / "m")))
        masks.append([read_mask(tmp_path / "m" / f"{name}.png") for name in ids])
    assert any(mask.any() for mask in masks[0])
    assert not any(mask.any() for mask in masks[1])  # no halved map reaches 0.6
    assert len(classes) == 3


@pytest.fixture
def arrays(pets_root, tmp_path):
    """(root, a folder of arrays of all classes for its training images): every map has values over
    0, only those of the labels are to be read.
    """
    root = shutil.copytree(pets_root, tmp_path / "pets")
    classes = load_class_list(root)
    (tmp_path / "arrays").mkdir()
    for name in load_ids(root, "train"):
        seed = seed_of(root, name)
        maps = np.full((len(classes), *seed.size), 0.6, dtype=np.float32)
        maps[seed.keys] = seed.cam
        np.save(tmp_path / "arrays" / f"{name}.npy", maps)
    return root, tmp_path / "arrays"


def _unreadable(root, how):
    """The fault that root's image labels then have."""
    path = root / LABEL_FILE
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:200])
        return rf"{path.name}"
    table = np.load(path, allow_pickle=True).item()
    name = load_ids(root, "train")[1]
    del table[name]
    np.save(path, table, allow_pickle=True)
    return rf"{path.name} has no image label for 1 of 5 images: {name}"


@pytest.mark.parametrize("how", ["damaged", "one missing"])
@pytest.mark.parametrize("cam_format", ["auto", "array"])
def test_arrays_whose_labels_cannot_be_read_are_refused(arrays, how, cam_format):
    root, folder = arrays
    name = load_ids(root, "train")[0]
    keys = _open(root, folder, cam_format).load(folder / f"{name}.npy").keys.tolist()
    assert keys == sorted(seed_of(root, name).keys.tolist())
    fault = _unreadable(root, how)
    with pytest.raises(
        InputError,
        match=f"{folder} are arrays, of which the maps of the image labels are read, but these "
        f"cannot be: .*{fault}",
    ):
        _open(root, folder, cam_format)


@pytest.mark.parametrize("how", ["damaged", "one missing"])
def test_labels_that_cannot_be_read_are_named(arrays, foreign, how, capsys):
    root, folder = arrays
    fault = _unreadable(root, how)
    forget_notes()
    assert _open(root, foreign).labels == {}
    assert re.search(
        f"{foreign}: read without the image labels, which cannot be read: .*{fault}",
        capsys.readouterr().out,
    )
    name = load_ids(root, "train")[0]
    np.save(folder / f"{name}.npy", np.zeros((9, 4, 6), np.float32))
    with pytest.raises(InputError, match=rf"an array of 9 maps; .*cannot be read: .*{fault}"):
        _open(root, folder)


@pytest.mark.parametrize("masks", ["none", "of other images"])
def test_a_data_set_without_labels_needs_no_word(arrays, masks, capsys):
    root, folder = arrays
    (root / LABEL_FILE).unlink()
    if masks == "none":
        shutil.rmtree(root / MASK_DIR)
    else:
        for name in load_ids(root, "train"):
            (root / MASK_DIR / f"{name}.png").unlink()
    forget_notes()
    assert _open(root, folder).labels == {}
    assert "image label" not in capsys.readouterr().out


def test_a_mask_folder_has_no_cam_format(pets_root):
    words = ["--voc12_root", str(pets_root), "--type", "png", "--cam_format", "unit"]
    with pytest.raises(InputError, match="--cam_format is for CAM files"):
        evaluation_cam.main(evaluation_cam.parse_args(words))


@pytest.fixture
def dated(pets_root, tmp_path):
    """(root, its CAM files, which say what photograph they are of, an id whose photograph has been
    replaced since).
    """
    root = shutil.copytree(pets_root, tmp_path / "pets")
    ids = load_ids(root, "train")
    for name in ids:
        seed = seed_of(root, name)
        of = {PHOTOGRAPH: file_digest(image_path(root, name))}
        save_cam(tmp_path / "cam", replace(seed, meta=seed.meta | of))
    path = image_path(root, ids[2])
    write_image(path.with_suffix(".png"), 255 - read_image(path))
    os.replace(path.with_suffix(".png"), path)
    return root, tmp_path / "cam", ids[2]


def test_replaced_photographs_are_counted_and_named(dated, tmp_path):
    root, folder, name = dated
    ids = load_ids(root, "train")
    text = rf"1 of 5 photographs have been replaced since .*{folder} were made, first .*{name}\.jpg"
    with pytest.raises(InputError, match=text):
        require_same_photographs(folder, root, ids)
    require_same_photographs(folder, root, [one for one in ids if one != name])
    for one in ids:  # of a later stage, whose seeds say it
        seed = load_cam(folder / f"{one}.npz")
        save_cam(tmp_path / "later", replace(seed, meta={"stage": "cam", "cam": seed.meta}))
    with pytest.raises(InputError, match="1 of 5 photographs"):
        require_same_photographs(tmp_path / "later", root, ids)


def test_files_that_do_not_say_their_photograph_are_taken(dated, own, foreign):
    root, _, _ = dated
    ids = load_ids(root, "train")
    require_same_photographs(own, root, ids)
    require_same_photographs(foreign, root, ids)
    require_same_photographs("nowhere", root, ids)


def test_stages_that_read_photographs_refuse_replaced_ones(dated, tmp_path):
    root, folder, _ = dated
    words = ["--voc12_root", str(root), "--infer_list", "train", "--cam_dir", str(folder)]
    with pytest.raises(InputError, match="1 of 5 photographs have been replaced"):
        make_crf.main(make_crf.parse_args([*words, "--out_cam", str(tmp_path / "crf")]))
    args = argparse.Namespace(cam_dir=str(folder), cam_format="auto", exif="apply")
    args.voc12_root = str(root)
    data = SimpleNamespace(root=root, ids=load_ids(root, "train"), classes=load_class_list(root))
    with pytest.raises(InputError, match="1 of 5 photographs have been replaced"):
        open_seeds(args, data)


def _refuses(script, *words):
    with pytest.raises(InputError, match="1 of 5 photographs have been replaced"):
        script.main(script.parse_args(_words(*words)))


@pytest.mark.parametrize("flags", [("--crf", "irn"), ("--t", "auto")])
def test_an_evaluation_that_reads_photographs_refuses_replaced_ones(dated, flags):
    root, folder, _ = dated
    words = ("--voc12_root", root, "--list", "train", "--predict_dir", folder, "--num_workers", 1)
    _refuses(evaluation_cam, *words, *flags)
    evaluation_cam.main(evaluation_cam.parse_args(_words(*words)))  # which reads maps and masks


def test_the_threshold_of_seeds_refuses_replaced_photographs(dated, own):
    root, folder, _ = dated
    ids = load_ids(root, "train")
    for given in ({"cam_dir": folder}, {"cam_dir": own, "seed_dir": folder}):
        with pytest.raises(InputError, match="1 of 5 photographs have been replaced"):
            choose_threshold(root, ids, **given)


def test_tables_masks_and_pages_refuse_replaced_photographs(dated, tmp_path):
    root, folder, _ = dated
    _refuses(
        stage_table,
        *("--voc12_root", root, "--lists", "train", "--seed_dir", folder, "--num_workers", 1),
        *("--out", tmp_path / "table"),
    )
    words = ("--voc12_root", root, "--infer_list", "train", "--cam_dir", folder)
    for threshold in ("0.4", "auto"):
        _refuses(make_masks, *words, "--t", threshold, "--out_mask", tmp_path / "mask")
    words = ("--voc12_root", root, "--list", "train", "--refined_dir", folder, "--num_workers", 1)
    _refuses(report, *words, "--out", tmp_path / "page.html")
    for one in load_ids(root, "train"):  # no threshold is chosen after a CRF
        seed = load_cam(folder / f"{one}.npz")
        save_cam(tmp_path / "crf", replace(seed, meta={"stage": "seed_crf", "cam": seed.meta}))
    words = (*words[:-4], "--crf_dir", tmp_path / "crf", *words[-2:])
    _refuses(report, *words, "--out", tmp_path / "page.html")
    assert not any((tmp_path / name).exists() for name in ("table.md", "mask", "page.html"))


def test_masks_of_replaced_photographs_are_counted_and_named(dated, tmp_path):
    root, folder, name = dated
    ids = load_ids(root, "train")

    def refuses(metas):
        paths = [tmp_path / f"{one}.png" for one in ids]
        for path, one, meta in zip(paths, ids, metas, strict=True):
            write_mask(path, seed_of(root, one).cam[0] > 0.5, meta)
        try:
            require_masks_of_same_photographs(paths, root, ids)
        except InputError as error:
            return str(error)
        return None

    made_of = [load_cam(folder / f"{one}.npz").meta for one in ids]
    digests = [meta[PHOTOGRAPH] for meta in made_of]
    expected = (
        f"1 of 5 photographs have been replaced since the masks in {tmp_path} were made, first "
        f"{image_path(root, name)}; run the stages that made them again, they make theirs anew"
    )
    assert refuses([{"stage": "seg_mask", "photograph_digest": one} for one in digests]) == expected
    assert refuses([{"stage": "irn_mask", "cam": meta} for meta in made_of]) == expected
    assert refuses([None for _ in ids]) is None
    # put back into the places of other photographs, voc12.own_masks
    put_back = [{"photograph": "photographs/a.jpg", "cam": meta} for meta in made_of]
    assert refuses(put_back) is None


@pytest.fixture
def mixed(pets_root, tmp_path):
    """CAM files of the training images, one of them of another network."""
    ids = load_ids(pets_root, "train")
    for name in ids:
        save_cam(tmp_path / "mixed", seed_of(pets_root, name))
    seed = seed_of(pets_root, ids[3])
    other = replace(seed, meta=seed.meta | {"weights": "fedcba9876543210"})
    save_cam(tmp_path / "mixed", other)
    return tmp_path / "mixed"


def test_cam_files_of_two_networks_are_refused_by_all_stages(pets_root, mixed, tmp_path):
    name = load_ids(pets_root, "train")[3]
    text = (
        rf"{mixed} mixes files of 2 networks: 4 by weights 0123456789abcdef, first .*\.npz, 1 by "
        rf"weights fedcba9876543210, first {name}\.npz; make all of them with one"
    )

    def refuses(script, *words):
        where = ("--voc12_root", pets_root, "--num_workers", 1)
        with pytest.raises(InputError, match=text):
            script.main(script.parse_args(_words(*where, *words)))

    refuses(evaluation_cam, "--list", "train", "--predict_dir", mixed)
    refuses(report, "--list", "train", "--refined_dir", mixed, "--out", tmp_path / "r.html")
    refuses(stage_table, "--lists", "train", "--seed_dir", mixed, "--out", tmp_path / "table")
    given = ("--infer_list", "train", "--cam_dir", mixed)
    refuses(make_crf, *given, "--out_cam", tmp_path / "crf")
    refuses(make_masks, *given, "--t", "0.4", "--out_mask", tmp_path / "mask")
    ids, classes = load_ids(pets_root, "train"), load_class_list(pets_root)
    args = argparse.Namespace(cam_dir=str(mixed), cam_format="auto", exif="apply")
    data = SimpleNamespace(root=pets_root, ids=ids, classes=classes)
    refuses(SimpleNamespace(main=lambda _: open_seeds(args, data), parse_args=list))
    with pytest.raises(InputError, match=text):  # of seeds beside the maps
        choose_threshold(pets_root, ids, "nowhere", seed_dir=mixed)
    with pytest.raises(InputError, match=text):
        evaluate_cams(ids, mixed, pets_root / MASK_DIR, classes)
    # each network's part of the list
    rest = [one for one in ids if one != name]
    evaluate_cams(rest, mixed, pets_root / MASK_DIR, classes)
    _open(pets_root, mixed.parent)


def test_masks_of_two_networks_are_not_evaluated_and_noted_by_a_training(
    pets_root, tmp_path, capsys
):
    ids, classes = load_ids(pets_root, "train"), load_class_list(pets_root)
    for place, name in enumerate(ids):
        mask = read_mask(pets_root / MASK_DIR / f"{name}.png") % 255  # a prediction has no 255
        write_mask(
            tmp_path / f"{name}.png", mask, {"stage": "seg_mask", "weights": f"{place // 3}"}
        )
    text = (
        f"files of 2 networks: 3 by weights 0, first {ids[0]}.png, "
        f"2 by weights 1, first {ids[3]}.png"
    )
    with pytest.raises(InputError, match=rf"{tmp_path} mixes {text}; make all of them with one"):
        evaluate_masks(ids, tmp_path, pets_root / MASK_DIR, classes)
    forget_notes()
    find_masks(tmp_path, ids, classes)
    assert f"note: --mask_dir {tmp_path} mixes {text}\n" in capsys.readouterr().out
