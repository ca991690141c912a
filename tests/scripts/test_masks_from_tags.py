"""The whole road at toy size: what it leaves, that it goes on, and what it refuses."""

import importlib
import json
import runpy
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import export_seg
import masks_from_tags
from tool.errors import InputError
from tool.file.images import read_mask, write_mask
from tool.file.state_dict import read_training
from voc12 import own_photographs

COLOURS = {"tabby": (220, 40, 40), "hound": (40, 220, 40)}


def in_process(ran, words):
    """Run `python WORDS` here, without the seconds that a new process needs to start, and without
    the export, which takes longer than all others (tests/scripts/test_export_seg.py has it).
    """
    ran.append(words)
    if words[0] == "export_seg.py":
        args = export_seg.parse_args(words[1:])
        Path(f"{args.out}.onnx").write_bytes(Path(args.weights).read_bytes()[:9])
        return 0
    module = importlib.import_module(words[1] if words[0] == "-m" else words[0][: -len(".py")])
    flags = list(words[2:] if words[0] == "-m" else words[1:])
    module.main(module.parse_args(flags))
    return 0


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    names = ["trip 2024/IMG 1.JPG", "trip 2024/b.Jpeg", "größe 4.jpg", "d.png", "empty.jpg"]
    for place, name in enumerate(names):
        image = rng.integers(90, 130, (40, 48, 3)).astype(np.uint8)
        image[10:30, 12:36] = list(COLOURS.values())[place % 2]
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    rows = [f"{name},{list(COLOURS)[place % 2]}" for place, name in enumerate(names[:4])]
    (tmp_path / "tags.csv").write_text("\n".join(["filename,tags", *rows, "empty.jpg,"]) + "\n")
    return tmp_path / "photos"


def flags(tmp_path, *more, images="photos"):
    words = ["--images", str(tmp_path / images), "--tags", str(tmp_path / "tags.csv")]
    words += ["--out", str(tmp_path / "out"), "--iterations", "2", "--seg_iterations", "2"]
    words += ["--crop_size", "64", "--seg_crop_size", "64", "--num_workers", "0"]
    return masks_from_tags.parse_args([*words, "--device", "cpu", "--rounds", "0", *more])


def test_from_tags_to_masks_and_on(tmp_path, photos, monkeypatch, capfd):
    ran = []
    run = partial(masks_from_tags.Progress, execute=partial(in_process, ran))
    monkeypatch.setattr(masks_from_tags, "Progress", run)
    monkeypatch.setattr(masks_from_tags, "TRIES", 1)
    truth = np.zeros((40, 48), dtype=np.uint8)
    truth[10:30, 12:36] = 1
    write_mask(tmp_path / "real/d.png", truth, {})
    masks_from_tags.main(flags(tmp_path, "--masks", str(tmp_path / "real")))
    out = tmp_path / "out"
    assert "1 photographs without tags are unlabelled" in capfd.readouterr().out

    masks = {path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png")}
    assert masks == {
        "trip 2024/IMG 1.png",
        "trip 2024/b.png",
        "größe 4.png",
        "d.png",
        "empty.png",
    }
    # within the tags: no hound where the tag is tabby
    classes = (out / "classes.txt").read_text().split()
    assert classes == ["hound", "tabby"]
    assert set(np.unique(read_mask(out / "masks/trip 2024/IMG 1.png"))) <= {0, 2}
    assert read_mask(out / "masks/d.png").shape == (40, 48)
    coco = COCO(str(out / "annotations.json"))
    assert {image["file_name"] for image in coco.imgs.values()} >= {"trip 2024/IMG 1.JPG", "d.png"}
    assert (out / "model.onnx").read_bytes() == (out / "model.pth").read_bytes()[:9]
    assert read_training(out / "classifier.pth")["verdict"]
    road = json.loads((out / "road.json").read_text())
    assert road["classes"] == classes
    assert road["images"] == str(photos.resolve())
    assert set(road["scores"]) == {*road["sureness"], "empty.jpg"}
    assert "tabby" in (out / "report.html").read_text()
    assert json.loads((out / "evaluation.json").read_text())
    lines = (out / "commands.txt").read_text().splitlines()
    assert len(lines) == 1 + len(ran)
    assert lines[0].startswith("python -m voc12.own_photographs --images ")
    assert lines[1].startswith("python train_cpn.py ")
    assert road["masks"]["trip 2024/IMG 1.JPG"] == "trip 2024/IMG 1.png"

    # the same command has nothing to do but to put back what is gone; a changed tag is learnt anew
    count, written = len(ran), (out / "road.json").stat().st_mtime_ns
    again = flags(tmp_path, "--masks", str(tmp_path / "real"), "--num_workers", "1")
    masks_from_tags.main(again)
    assert (len(ran), (out / "road.json").stat().st_mtime_ns) == (count, written)
    (out / "model.pth").unlink()
    (out / "masks/d.png").unlink()
    (out / "road.json").write_text("{")
    masks_from_tags.main(again)
    assert [words[1] for words in ran[count:]] == ["voc12.own_masks"]
    assert json.loads((out / "road.json").read_text()) == road
    assert (out / "model.pth").is_file()
    assert (out / "masks/d.png").is_file()
    # a photograph of another name and the same id
    (photos / "größe 4.jpg").rename(photos / "größe_4.jpg")
    (tmp_path / "tags.csv").write_text((tmp_path / "tags.csv").read_text().replace("e 4.", "e_4."))
    count = len(ran)
    masks_from_tags.main(again)
    assert {words[0] for words in ran[count:]}.isdisjoint({"train_cpn.py", "train_seg.py"})
    assert (out / "masks/größe_4.png").is_file()
    assert not (out / "masks/größe 4.png").exists()
    assert "größe_4.jpg" in json.loads((out / "road.json").read_text())["masks"]
    # the folder of photographs has moved with all that was made of it
    road = json.loads((out / "road.json").read_text())
    (out / "road.json").write_text(json.dumps(road | {"images": "/elsewhere"}))
    masks_from_tags.main(again)
    assert json.loads((out / "road.json").read_text()) == road
    table = (tmp_path / "tags.csv").read_text().replace("d.png,hound", "d.png,tabby")
    (tmp_path / "tags.csv").write_text(table)
    stop = RuntimeError("here")

    def first(words):
        ran.append(words)
        raise stop

    monkeypatch.setattr(masks_from_tags, "Progress", partial(type(run(tmp_path)), execute=first))
    with pytest.raises(RuntimeError):
        masks_from_tags.main(flags(tmp_path))
    assert ran[-1][0] == "train_cpn.py"


def test_torchrun_is_told_of_nproc_per_node(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="run it by python, with --nproc_per_node"):
        masks_from_tags.main(flags(tmp_path))


def test_nothing_is_written_before_the_input_is_right(tmp_path, photos):
    with pytest.raises(InputError, match="--mask_values is about --masks, which is not given"):
        masks_from_tags.main(flags(tmp_path, "--mask_values", "ignore"))
    (tmp_path / "real").mkdir()
    with pytest.raises(InputError, match="has no mask of any of the 5 photographs"):
        masks_from_tags.main(flags(tmp_path, "--masks", str(tmp_path / "real")))
    write_mask(tmp_path / "real/d.png", np.full((40, 48), 3), {})
    with pytest.raises(InputError, match=r"d\.png: the ground truth has class value 3; 2 classes"):
        masks_from_tags.main(flags(tmp_path, "--masks", str(tmp_path / "real")))
    assert not (tmp_path / "out").exists()


def test_what_would_fail_after_the_trainings_fails_before(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(masks_from_tags, "Progress", None)
    path = photos / "empty.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"cannot read image .*empty\.jpg"):
        masks_from_tags.main(flags(tmp_path))
    path.unlink()
    write_mask(tmp_path / "out/masks/theirs.png", np.ones((40, 48)), {})
    with pytest.raises(InputError, match=r"theirs\.png is the mask of none of the photographs"):
        masks_from_tags.main(flags(tmp_path))


def test_masks_and_outputs_among_the_photographs_are_none(tmp_path, photos, capsys):
    write_mask(photos / "real/d.png", np.ones((40, 48)), {})
    write_mask(photos / "out/masks/d.png", np.ones((40, 48)), {})
    write_mask(photos / "old/d.png", np.ones((40, 48)), {})
    words = ["--masks", str(photos / "real"), "--leave_out", str(photos / "old")]
    args = flags(tmp_path, *words, "--out", str(photos / "out"))
    found = masks_from_tags.read_own(args)
    assert len(found.ids) == 5
    # the command that makes the same data set by hand
    line = masks_from_tags.data_command(args, photos / "out/work/data")
    again = own_photographs.parse_args(shlex.split(line)[3:])
    assert masks_from_tags.read_own(again).ids == found.ids
    args = flags(tmp_path, "--masks", str(photos))
    with pytest.raises(InputError, match=r"--masks .*photos is --images as well"):
        masks_from_tags.read_own(args)


def test_a_folder_that_is_called_as_a_flag_is(tmp_path, photos, monkeypatch):
    photos.rename(tmp_path / "-photos")
    monkeypatch.chdir(tmp_path)
    assert masks_from_tags.folder_word("./-photos") == tmp_path / "-photos"
    assert masks_from_tags.folder_word("photos/x") == Path("photos/x")


def test_help_says_what_is_left(capsys):
    with pytest.raises(SystemExit):
        runpy.run_path(str(Path(masks_from_tags.__file__)), run_name="x")["parse_args"](["--help"])
    assert "annotations.json" in capsys.readouterr().out


def test_the_command_of_the_data_set_has_the_columns():
    words = ["--images", "p", "--tags", "t.csv", "--image_column", "my photo", "--out", "o"]
    args = masks_from_tags.parse_args([*words, "--tag_columns", "a tag", "2"])
    command = masks_from_tags.data_command(args, Path("o/work/data"))
    assert "--tags t.csv --image_column 'my photo' --tag_columns 'a tag' 2 --long_side" in command
    again = own_photographs.parse_args(shlex.split(command)[3:])
    assert (again.image_column, again.tag_columns) == ("my photo", ["a tag", "2"])
