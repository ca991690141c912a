"""Making the data set from tiny archives: what is merged, what is kept, where a cut-off run goes
on, and what is refused.
"""

import io
import re
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from tool.errors import InputError
from tool.file.images import read_mask, write_mask
from tool.mask_values import voc_palette
from voc12 import prepare
from voc12.constants import CLASSES
from voc12.labels import load_labels
from voc12.lists import load_ids

# One image in VOC's train, one in val, both in SBD too; two in SBD only; one in neither.
TRAIN, VAL, SBD_ONLY, NEITHER = (
    "2007_000032",
    "2007_000042",
    ["2008_000008", "2008_000015"],
    "2009_000001",
)
IMAGES = [TRAIN, VAL, *SBD_ONLY, NEITHER]
VOC_VALUE, SBD_VALUE = 1, 2


def png(mask):
    image = Image.fromarray(mask, mode="P")
    image.putpalette(voc_palette().ravel().tolist())
    data = io.BytesIO()
    image.save(data, format="PNG")
    return data.getvalue()


def jpg():
    data = io.BytesIO()
    Image.new("RGB", (6, 4)).save(data, format="JPEG")
    return data.getvalue()


def xml(class_name):
    return f"<annotation><object><name>{class_name}</name></object></annotation>".encode()


def mat(mask):
    data = io.BytesIO()
    savemat(data, {"GTcls": {"Segmentation": mask, "CategoriesPresent": np.unique(mask)}})
    return data.getvalue()


def mask_of(value):
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 2:5] = value
    return mask


def tar_file(path, files):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


VOC_FILES = {
    **{f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg": jpg() for name in IMAGES},
    **{
        f"VOCdevkit/VOC2012/Annotations/{name}.xml": xml(CLASSES[i])
        for i, name in enumerate(IMAGES)
    },
    "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": f"{TRAIN}\n".encode(),
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": f"{VAL}\n".encode(),
    f"VOCdevkit/VOC2012/SegmentationClass/{TRAIN}.png": png(
        mask_of(VOC_VALUE) + np.uint8(255) * (np.arange(6) == 0)
    ),
    f"VOCdevkit/VOC2012/SegmentationClass/{VAL}.png": png(mask_of(VOC_VALUE)),
}
SBD_FILES = {
    **{
        f"benchmark_RELEASE/dataset/cls/{name}.mat": mat(mask_of(SBD_VALUE))
        for name in [TRAIN, VAL, *SBD_ONLY]
    },
    "benchmark_RELEASE/dataset/cls/._2008_000008.mat": b"",
    "benchmark_RELEASE/dataset/img/2008_000008.jpg": jpg(),
    "benchmark_RELEASE/dataset/inst/2008_000009.mat": b"not read",
}


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    return tar_file(folder / "voc.tar", VOC_FILES), tar_file(folder / "sbd.tgz", SBD_FILES)


@pytest.fixture
def run(tmp_path, archives):
    """Run the script as the command line does; the archives are those of the test unless flags say
    otherwise.
    """
    root = tmp_path / "data" / "voc"

    def run(*flags, voc_tar=archives[0], sbd_tar=archives[1], expect=3):
        given = [f"--voc_tar={voc_tar}"] if voc_tar else []
        given += [f"--sbd_tar={sbd_tar}"] if sbd_tar else []
        prepare.main(
            prepare.parse_args([f"--voc12_root={root}", f"--expect={expect}", *given, *flags])
        )
        return root

    run.root = root
    return run


def tree(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_the_data_set_from_both_archives(run, archives, capsys):
    root = run()
    assert read_mask(root / "SegmentationClassAug" / f"{TRAIN}.png").tolist() == (
        (
            mask_of(VOC_VALUE) + np.uint8(255) * (np.arange(6) == 0)
        ).tolist()  # VOC's own mask with its ignored pixels, not SBD's
    )
    assert (
        read_mask(root / "SegmentationClassAug" / f"{VAL}.png").tolist()
        == mask_of(VOC_VALUE).tolist()
    )
    for name in SBD_ONLY:
        with Image.open(root / "SegmentationClassAug" / f"{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette()[:9] == voc_palette()[:3].ravel().tolist()
            assert np.array(image).tolist() == mask_of(SBD_VALUE).tolist()
    assert len(list((root / "SegmentationClassAug").iterdir())) == 4
    assert load_ids(root, root / "ImageSets" / "Segmentation" / "train_aug.txt") == [
        TRAIN,
        *SBD_ONLY,
    ]
    ids = [TRAIN, VAL, *SBD_ONLY]
    np.testing.assert_array_equal(load_labels(root, ids, CLASSES, "npy"), np.eye(20)[:4])
    assert sorted(path.name for path in (root / "JPEGImages").iterdir()) == [
        f"{name}.jpg" for name in sorted(IMAGES)
    ]
    assert all(path.exists() for path in archives)
    assert (
        f"{root}: 3 images in train_aug, 1 in val; image labels in cls_labels.npy"
        in capsys.readouterr().out
    )


def test_a_second_run_changes_nothing_and_needs_no_archive(run):
    root = run()
    before = tree(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    run(voc_tar=None, sbd_tar=None)
    assert tree(root) == before
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == times


def test_a_run_cut_off_in_the_merge_goes_on(run, monkeypatch, capsys):
    complete = tree(run())
    shutil.rmtree(run.root)
    written = []

    def full_after_one(path, mask):
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write_mask(path, mask)

    monkeypatch.setattr(prepare, "write_mask", full_after_one)
    with pytest.raises(OSError, match="No space left on device"):
        run()
    assert len(written) == 1
    assert not (run.root / "cls_labels.npy").exists()
    monkeypatch.undo()
    capsys.readouterr()
    run(voc_tar=None)
    assert "SBD: 1 masks written" in capsys.readouterr().out
    assert tree(run.root) == complete


def test_a_run_cut_off_in_the_extraction_goes_on(run, tmp_path):
    complete = tree(run())
    shutil.rmtree(run.root)
    voc = tmp_path / "archives" / "voc.tar"
    cut = tmp_path / "cut.tar"
    cut.write_bytes(voc.read_bytes()[: voc.stat().st_size // 2])
    with pytest.raises(InputError, match=re.escape(f"cannot extract {cut}: ")):
        run(voc_tar=cut)
    assert (run.root / "JPEGImages").is_dir()
    assert not prepare.has_voc(run.root)
    (run.root / "JPEGImages" / f"{TRAIN}.jpg").write_bytes(b"half")
    run()
    assert tree(run.root) == complete


def test_masks_that_are_there_are_kept(run):
    mine = mask_of(7)
    write_mask(run.root / "SegmentationClassAug" / f"{SBD_ONLY[0]}.png", mine)
    assert (
        read_mask(run() / "SegmentationClassAug" / f"{SBD_ONLY[0]}.png").tolist() == mine.tolist()
    )


def test_unexpected_number_of_images(run):
    folder = run.root / "SegmentationClassAug"
    with pytest.raises(
        InputError, match=re.escape(f"{folder} without val.txt has 3 masks, 10582 expected")
    ):
        run(expect=10582)
    assert not (run.root / "ImageSets" / "Segmentation" / "train_aug.txt").exists()
    assert not (run.root / "cls_labels.npy").exists()
    run(expect=0)
    assert len(load_ids(run.root, "train_aug")) == 3


def test_own_list_and_labels_are_checked_not_overwritten(run):
    root = run()
    list_file, label_file = (
        root / "ImageSets" / "Segmentation" / "train_aug.txt",
        root / "cls_labels.npy",
    )
    list_file.write_text(f"{TRAIN}\n")
    with pytest.raises(
        InputError,
        match=re.escape(
            f"{list_file} lists other ids than SegmentationClassAug without val.txt has"
        ),
    ):
        run()
    list_file.write_text(
        "".join(
            f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n"
            for name in [*SBD_ONLY, TRAIN]
        )
    )
    before = tree(root)
    run()
    assert tree(root) == before
    np.save(label_file, {TRAIN: np.zeros(20, np.float32)}, allow_pickle=True)
    with pytest.raises(
        InputError, match=re.escape(f"{label_file} does not fit the masks; delete it")
    ):
        run()


def test_a_mask_without_image_is_named(run, tmp_path):
    files = SBD_FILES | {"benchmark_RELEASE/dataset/cls/2010_000099.mat": mat(mask_of(3))}
    with pytest.raises(InputError, match="no image for id 2010_000099: "):
        run(sbd_tar=tar_file(tmp_path / "more.tgz", files), expect=4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no mat", "is no mask of SBD: "),
        (mat(mask_of(3))[:60], "is no mask of SBD: "),
        (mat(mask_of(21)), "is no mask of SBD: uint8 of shape (4, 6)"),
        (mat(mask_of(3).astype(np.float64)), "is no mask of SBD: float64 of shape (4, 6)"),
    ],
)
def test_damaged_masks_are_named(run, tmp_path, data, message):
    member = "benchmark_RELEASE/dataset/cls/2008_000008.mat"
    sbd = tar_file(tmp_path / "bad.tgz", SBD_FILES | {member: data})
    with pytest.raises(InputError, match=re.escape(f"{sbd}: {member} {message}")):
        run(sbd_tar=sbd)


def test_wrong_archives_are_named(run, archives, tmp_path):
    with pytest.raises(
        InputError, match=re.escape(f"{archives[1]} is not VOCtrainval_11-May-2012.tar: ")
    ):
        run(voc_tar=archives[1])
    with pytest.raises(InputError, match=re.escape(f"{archives[0]} is not SBD's benchmark.tgz: ")):
        run(sbd_tar=archives[0])
    with pytest.raises(
        InputError, match=re.escape(f"archive of --sbd_tar not found: {tmp_path / 'no.tgz'}; ")
    ):
        run(sbd_tar=tmp_path / "no.tgz")
    text = tmp_path / "text.tgz"
    text.write_text("<html>404</html>")
    with pytest.raises(InputError, match=re.escape(f"cannot extract {text}: ")):
        run(sbd_tar=text)
    damaged = tmp_path / "damaged.tgz"
    raw = bytearray(archives[1].read_bytes())
    raw[200:260] = bytes(60)
    damaged.write_bytes(raw)
    with pytest.raises(InputError, match=re.escape(f"cannot extract {damaged}: ")):
        run(sbd_tar=damaged)


def test_members_outside_the_folder_are_not_extracted(run, tmp_path):
    voc = tar_file(tmp_path / "evil.tar", VOC_FILES | {"VOCdevkit/VOC2012/../../evil.txt": b"evil"})
    with pytest.raises(InputError, match=re.escape(f"cannot extract {voc}: ")):
        run(voc_tar=voc)
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_in_an_archive_are_not_extracted(run, tmp_path):
    voc = tar_file(tmp_path / "links.tar", VOC_FILES)
    with tarfile.open(voc, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"VOCdevkit/VOC2012/link{kind.decode()}")
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    assert not [
        path for path in run(voc_tar=voc).rglob("link*") if path.is_symlink() or path.exists()
    ]


@pytest.fixture
def mirror(archives, monkeypatch):
    """Stand in for the network: a download copies the test's archive of that name; calls are
    recorded.
    """
    copies = {prepare.VOC.filename: archives[0], prepare.SBD.filename: archives[1]}
    calls = []

    def download_url(url, root, filename, md5):
        calls.append((url, md5))
        Path(root).mkdir(parents=True, exist_ok=True)
        shutil.copy(copies[filename], Path(root) / filename)

    monkeypatch.setattr(prepare, "download_url", download_url)
    return calls


@pytest.mark.parametrize("flags", [[], ["--keep_archives"]])
def test_downloads_are_checked_by_md5_and_deleted_unless_kept(run, mirror, flags):
    root = run(*flags, voc_tar=None, sbd_tar=None)
    assert mirror == [(prepare.VOC.url, prepare.VOC.md5), (prepare.SBD.url, prepare.SBD.md5)]
    assert (root / "cls_labels.npy").exists()
    left = {path.name for path in root.parent.iterdir()} - {root.name}
    assert left == ({prepare.VOC.filename, prepare.SBD.filename} if flags else set())


def test_an_archive_put_beside_the_folder_is_not_deleted(run, mirror, archives):
    run.root.parent.mkdir()
    shutil.copy(archives[1], run.root.parent / prepare.SBD.filename)
    run(sbd_tar=None)
    assert (run.root.parent / prepare.SBD.filename).exists()


@pytest.mark.parametrize(
    "error", [URLError("no route"), RuntimeError("File not found or corrupted.")]
)
def test_a_failed_download_says_where_the_file_goes(run, monkeypatch, error):
    def download_url(*_):
        raise error

    monkeypatch.setattr(prepare, "download_url", download_url)
    place = run.root.parent / "benchmark.tgz"
    message = (
        f"cannot download {prepare.SBD.url} ({error}); get it some other way and put it at {place} "
        "or pass --sbd_tar FILE"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        run(sbd_tar=None)


def test_too_little_disk_stops_before_the_download(run, monkeypatch, mirror):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 10**9))
    with pytest.raises(
        InputError, match=r"has 4\.0 GB free, 4\.1 GB are needed; choose another --voc12_root"
    ):
        run(voc_tar=None, sbd_tar=None)
    with pytest.raises(InputError, match=r"has 4\.0 GB free, 5\.5 GB are needed"):
        run("--keep_archives", voc_tar=None, sbd_tar=None)
    assert mirror == []
    run()


def test_sbd_as_the_folder_it_was_extracted_to(run, archives, tmp_path):
    with tarfile.open(archives[1]) as tar:
        tar.extractall(tmp_path / "sbd", filter="data")
    expected = tree(run(sbd_tar=tmp_path / "sbd"))
    shutil.rmtree(run.root)
    assert tree(run()) == expected
    (tmp_path / "nothing").mkdir()
    shutil.rmtree(run.root)
    with pytest.raises(InputError, match=r"nothing is not SBD's benchmark\.tgz: it has no masks"):
        run(sbd_tar=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cats/1.jpg"], " holds other data than VOC (cats); this command downloads VOC 2012 into"),
        (["JPEGImages/1.jpg", "classes.txt"], " holds other data than VOC (classes.txt); this"),
        (["JPEGImages/IMG 1.jpg"], " holds other photographs than VOC's (JPEGImages/IMG 1.jpg)"),
    ],
)
def test_a_folder_of_other_data_is_left_alone(run, files, message):
    for name in files:
        (run.root / name).parent.mkdir(parents=True, exist_ok=True)
        (run.root / name).touch()
    before = tree(run.root)
    with pytest.raises(InputError, match=re.escape(f"{run.root}{message}")):
        run()
    assert tree(run.root) == before


def test_an_empty_folder_and_archives_in_it_are_no_other_data(run, archives):
    run.root.mkdir(parents=True)
    (run.root / "benchmark.tgz").touch()
    assert len(load_ids(run(), "train_aug")) == 3


def test_the_archives_are_called_as_torchvision_calls_them():
    assert DATASET_YEAR_DICT["2012"]["filename"] == prepare.VOC.filename
    assert SBDataset.filename == prepare.SBD.filename
