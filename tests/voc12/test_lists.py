"""Image lists, ids and class lists: what is read, what is refused, and how the refusal reads."""

import re

import pytest

from tool.errors import InputError
from voc12.constants import LIST_DIR
from voc12.lists import (
    derive_train_aug,
    evenly,
    find_image,
    image_path,
    list_stem,
    list_title,
    load_ids,
    mask_path,
    read_list,
    require_root,
    resolve_list,
)

IDS = ["2007_000032", "2007_000039", "own.image-1"]
PLAIN = "2007_000032\n2007_000039\nown.image-1\n"
PAIRS = "".join(f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in IDS)


@pytest.fixture
def root(tmp_path):
    """A VOC folder with four masks, of which val.txt takes one."""
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("b\n")
    (tmp_path / "SegmentationClassAug").mkdir()
    for name in ("d", "a", "c", "b"):
        (tmp_path / "SegmentationClassAug" / f"{name}.png").touch()
    return tmp_path


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PAIRS.encode(),
        PAIRS.replace(" /", " ").removeprefix("/").replace("\n/", "\n").encode(),
        PAIRS.replace("/SegmentationClassAug", "/some/folder").encode(),
        re.sub(r" .*", "", PAIRS).encode(),
        PAIRS.replace("/JPEG", "/data/VOC2012/JPEG").replace(" /", " /data/VOC2012/").encode(),
        re.sub(r" .*", "", PAIRS).replace("/JPEG", "./JPEG").encode(),
        re.sub(r" .*", "", PAIRS).replace("/JPEG", "JPEGImages/VOC2012/JPEG").encode(),
        PAIRS.replace("/", "\\").replace("\\JPEG", "D:\\VOC\\JPEG").encode(),
        PLAIN.replace("\n", ".jpg\n").encode(),
        PLAIN.rstrip().encode(),
        PLAIN.replace("\n", "\r\n\r\n  \r\n").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        b"\xff\xfe" + PLAIN.encode("utf-16-le"),
    ],
    ids=[
        "plain",
        "pairs",
        "no slash",
        "mask folder",
        "images",
        "full paths",
        "from here",
        "from a folder above",
        "windows paths",
        "suffix",
        "no last line end",
        "windows",
        "bom",
        "utf-16",
    ],
)
def test_every_form_of_a_list_gives_the_same_ids(tmp_path, data):
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    assert read_list(path) == IDS


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "a\\b",
        "/JPEGImages/../secret.jpg",
        "/JPEGImages//etc/passwd.jpg",
        "JPEGImages/a/b.jpg",
        "/data/JPEGImages/a/b.jpg",
        "/data/VOC2012/a.jpg",
        "a\0b",
        "..\\a",
        "/JPEGImages/",
    ],
)
def test_an_id_that_leaves_the_folder_is_refused_with_file_and_line(tmp_path, name):
    path = tmp_path / "list.txt"
    path.write_text(f"fine\n\n{name}\n")
    quoted = name.replace("\0", "\\x00")
    expected = f"{path} line 3: '{quoted}' is not an image id"
    with pytest.raises(InputError, match=re.escape(expected)):
        read_list(path)


@pytest.mark.parametrize(
    "line",
    [
        "2007_000032  2",
        "a b",
        "/JPEGImages/a.jpg /SegmentationClassAug/b.png",
        "/JPEGImages/a.jpg /JPEGImages/b.png",
        "a a a",
    ],
)
def test_a_line_that_is_neither_id_nor_pair_is_refused(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"{line}\n")
    with pytest.raises(
        InputError, match=re.escape(f"{path} line 1: '{line}' is neither one id nor the pair")
    ):
        read_list(path)


@pytest.mark.parametrize("mark", ["1", "-1", "0"])
def test_a_list_of_one_class_is_named(tmp_path, mark):
    path = tmp_path / "list.txt"
    path.write_text(f"2007_000032 {mark:>2}\n")
    with pytest.raises(InputError) as error:
        read_list(path)
    assert str(error.value) == (
        f"{path} line 1: '2007_000032 {mark:>2}' is of VOC's list of one class, which marks the "
        "images that show it by 1, others by -1 and hard ones by 0; keep the first column of the "
        "lines that you want"
    )


def test_messages_for_unusable_lists(tmp_path):
    path = tmp_path / "list.txt"
    with pytest.raises(InputError, match=re.escape(f"image list not found: {path}; ")):
        read_list(path)
    path.write_bytes(b"\xef\xbb\xbf \r\n\n")
    with pytest.raises(InputError, match=re.escape(f"{path} is an empty image list")):
        read_list(path)
    path.write_text("a\nb\n\n/JPEGImages/a.jpg\n")
    with pytest.raises(InputError, match=re.escape(f"{path} line 4: id a is already on line 1")):
        read_list(path)
    path.write_bytes(b"a\n\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=re.escape(f"{path} is not a text file: byte 2 ")):
        read_list(path)


def test_resolve_list_finds_paths_and_names(root, tmp_path_factory):
    in_root = root / "ImageSets" / "Segmentation" / "val.txt"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.lst"
    elsewhere.write_text("x\n")
    assert resolve_list(root, "val") == in_root
    assert resolve_list(root, "val.txt") == in_root
    assert resolve_list(root, elsewhere) == elsewhere


@pytest.mark.parametrize("name", ["trian", "trian.txt"])
def test_resolve_list_names_both_places(root, name):
    in_root = root / "ImageSets" / "Segmentation" / "trian.txt"
    with pytest.raises(
        InputError, match=re.escape(f"image list not found: neither {name} nor {in_root} is a file")
    ):
        resolve_list(root, name)


@pytest.mark.parametrize("name", ["train_aug", "train_aug.txt"])
def test_train_aug_is_the_masks_minus_val_unless_a_file_says_otherwise(root, name):
    assert derive_train_aug(root) == load_ids(root, name) == ["a", "c", "d"]
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("c\na\n")
    assert load_ids(root, name) == ["c", "a"]
    assert derive_train_aug(root) == ["a", "c", "d"]


def test_evenly_takes_all_or_some_in_their_order():
    assert evenly("abc", 5) == ["a", "b", "c"]
    assert evenly(range(10), 4) == [0, 2, 5, 7]
    assert evenly((), 3) == []


def test_a_part_of_a_list_is_evenly_spread(root):
    path = root / "ImageSets" / "Segmentation" / "long.txt"
    path.write_text("".join(f"{index}\n" for index in range(10)))
    assert load_ids(root, "long:4") == load_ids(root, f"{path}:4") == ["0", "2", "5", "7"]
    assert load_ids(root, "long:10") == load_ids(root, "long")
    assert load_ids(root, "train_aug:2") == ["a", "c"]
    with pytest.raises(InputError, match="long:11 asks for 11 images, the list long has 10"):
        load_ids(root, "long:11")
    with pytest.raises(InputError, match="image list not found: neither long:0 nor "):
        load_ids(root, "long:0")


@pytest.mark.parametrize(
    ("name", "stem", "title"),
    [
        ("val", "val", "val"),
        ("lists/val.txt", "val", "val"),
        ("lists/val.txt:50", "val", "val:50"),
        ("val:50", "val", "val:50"),
    ],
)
def test_a_list_has_a_title(name, stem, title):
    assert (list_stem(name), list_title(name)) == (stem, title)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("animals_train_aug", 790),
        ("animals_val.txt", 200),
        ("all20_train_aug", 311),
        ("all20_val", 160),
        ("photos20_train_aug", 1060),
    ],
)
def test_lists_of_the_log_come_with_the_code(root, name, count):
    ids = load_ids(root, name)
    assert len(ids) == len(set(ids)) == count
    own = root / LIST_DIR / f"{name.removesuffix('.txt')}.txt"
    own.write_text("2007_000001\n")  # the data set's own list of that name comes first
    assert load_ids(root, name) == ["2007_000001"]
    own.unlink()


def test_lists_of_the_log_do_not_mix_training_and_validation(root):
    train, val = (
        set(load_ids(root, "photos20_train_aug")),
        {*load_ids(root, "animals_val"), *load_ids(root, "all20_val")},
    )
    assert train == {*load_ids(root, "animals_train_aug"), *load_ids(root, "all20_train_aug")}
    assert not train & val


def test_load_ids_derives_no_other_list(root):
    assert load_ids(root, "val") == ["b"]
    with pytest.raises(InputError, match="image list not found: neither train nor "):
        load_ids(root, "train")


def test_derive_train_aug_needs_masks_and_val(root):
    val = root / "ImageSets" / "Segmentation" / "val.txt"
    val.write_text("a\nb\nc\nd\n")
    with pytest.raises(
        InputError, match=re.escape(f"{root / 'SegmentationClassAug'} has no mask outside val.txt")
    ):
        derive_train_aug(root)
    val.unlink()
    with pytest.raises(InputError, match="image list not found: neither val nor "):
        derive_train_aug(root)
    with pytest.raises(
        InputError,
        match=re.escape(f"folder of masks not found: {root / 'none' / 'SegmentationClassAug'}"),
    ):
        derive_train_aug(root / "none")


def test_image_path_prefers_jpg_and_names_the_id(root):
    folder = root / "JPEGImages"
    folder.mkdir()
    for suffix in (".PNG", ".png", ".jpeg", ".jpg"):
        (folder / f"a{suffix}").touch()
        assert image_path(root, "a") == folder / f"a{suffix}"
    with pytest.raises(
        InputError, match=re.escape(f"no image for id b: {folder / 'b.jpg'} not found")
    ):
        image_path(root, "b")


def test_a_suffix_in_small_letters_and_capitals_is_found(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    for name in ("c.Jpg", "c.txt", "d.Png"):
        (tmp_path / "JPEGImages" / name).touch()
    assert image_path(tmp_path, "c").name == "c.Jpg"
    assert find_image(tmp_path / "JPEGImages", "e") is None
    assert find_image(tmp_path / "nowhere", "c") is None
    (tmp_path / "list.txt").write_text("c.Jpg\nd\n")
    assert read_list(tmp_path / "list.txt") == ["c", "d"]


def test_mask_path_names_the_id(root):
    assert mask_path(root, "a") == root / "SegmentationClassAug" / "a.png"
    (root / "SegmentationClassAug" / "y.PNG").touch()
    with pytest.raises(InputError, match=r"mask of id y not found: .* and y\.PNG is there"):
        mask_path(root, "y")
    with pytest.raises(InputError, match="mask of id z not found: "):
        mask_path(root, "z")


def test_a_folder_of_photographs_is_sent_to_the_road(tmp_path):
    """Not to VOC's download."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.JPG").touch()
    with pytest.raises(InputError, match=r"masks_from_tags.py --images .* --tags FILE --out DIR"):
        require_root(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    assert require_root(tmp_path) == tmp_path
    (tmp_path / "empty").mkdir()
    assert require_root(tmp_path / "empty") == tmp_path / "empty"
