"""Photographs given by hand: which, and that no two of them write the same file."""

from pathlib import Path

import pytest

from tool.errors import InputError
from tool.file.photographs import find_photographs, require_outputs


def _touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_gives_all_photographs_below_it_with_their_paths(tmp_path, capsys):
    root = tmp_path / "d"
    _touch(root / "a.JPG", root / "s b" / "ü.png", root / "notes.txt", root / ".x" / "c.jpg")
    found = find_photographs([str(root)], "seg")
    assert [(one.path, one.name, one.home) for one in found] == [
        (root / "a.JPG", "a", tmp_path / "d_seg"),
        (root / "s b" / "ü.png", "ü", tmp_path / "d_seg" / "s b"),
    ]
    assert found[1].folder(tmp_path / "out") == tmp_path / "out" / "s b"
    assert capsys.readouterr().out == (
        f"{root}: 2 photographs; 1 other files are left out (.txt)\n"
    )


def test_photographs_of_one_stem_take_their_suffix(tmp_path):
    _touch(tmp_path / "x.jpg", tmp_path / "x.png", tmp_path / "y.jpg")
    given = [str(tmp_path / name) for name in ("x.jpg", "x.png", "y.jpg", "x.jpg")]
    assert [one.name for one in find_photographs(given, "seg")] == ["x.jpg", "x.png", "y"]


def test_one_name_in_two_folders_clashes_only_in_a_folder_for_both(tmp_path):
    first, second = tmp_path / "a" / "p.jpg", tmp_path / "b" / "p.jpg"
    _touch(first, second)
    given, out = [str(first), str(second)], tmp_path / "out"
    assert [one.name for one in find_photographs(given, "seg")] == ["p", "p"]
    with pytest.raises(InputError) as error:
        find_photographs(given, "seg", [out])
    assert str(error.value) == (
        f"--image: of {first} and {second} the same file would be written, {out / 'p.jpg'}; do "
        "them one after the other, into other folders"
    )


def test_outputs_below_the_folder_are_no_photographs(tmp_path):
    _touch(tmp_path / "a.jpg", tmp_path / "out" / "a_seg.png")
    found = find_photographs([str(tmp_path)], "seg", [tmp_path / "out"])
    assert [one.path.name for one in found] == ["a.jpg"]
    with pytest.raises(InputError, match="is the folder to write to as well"):
        find_photographs([str(tmp_path)], "seg", [tmp_path])


def test_what_is_not_there_and_empty_folders_are_named(tmp_path):
    with pytest.raises(InputError) as error:
        find_photographs([str(tmp_path / "no")], "seg")
    assert str(error.value) == (
        f"--image: {tmp_path / 'no'} is not there; give photographs, or folders of them"
    )
    with pytest.raises(InputError, match="has no photographs"):
        find_photographs([str(tmp_path)], "seg")


def test_no_photograph_is_overwritten_and_nothing_written_twice(tmp_path):
    _touch(tmp_path / "x.png", tmp_path / "x_a.png")
    found = find_photographs([str(tmp_path / "x.png"), str(tmp_path / "x_a.png")], "seg")
    with pytest.raises(InputError, match=r"x_a\.png, to be written of .*x\.png, is one of the"):
        require_outputs(found, lambda one: [Path(one.home) / f"{one.name}_a.png"])
    # class "a_b" of x and class "b" of x_a
    names = ("a_b", "b")
    with pytest.raises(InputError, match="the same file would be written"):
        require_outputs(found, lambda one: [one.home / f"{one.name}_{n}.npy" for n in names])
    with pytest.raises(InputError) as error:
        require_outputs(found, lambda one: [one.home / f"{one.name}_mask.png"] * 2)
    assert str(error.value) == (
        f"--image: 2 outputs of {found[0].path} would be the same file, {tmp_path / 'x_mask.png'}"
    )


def test_films_are_found_where_they_are_done_and_refused_elsewhere(tmp_path, capsys):
    root = tmp_path / "d"
    _touch(root / "a.jpg", root / "b.MP4")
    found = find_photographs([str(root)], "seg", films=True)
    assert [(one.path.name, one.is_film) for one in found] == [("a.jpg", False), ("b.MP4", True)]
    assert capsys.readouterr().out == f"{root}: 1 photographs and 1 films\n"
    assert [one.path.name for one in find_photographs([str(root)], "cam")] == ["a.jpg"]
    with pytest.raises(InputError, match=r"b\.MP4 is a film; infer_seg\.py does films"):
        find_photographs([str(root / "b.MP4")], "cam")


def test_linked_folders_are_followed_and_end(tmp_path, capsys):
    root = tmp_path / "d"
    _touch(root / "a" / "x.jpg", tmp_path / "e" / "y.jpg")
    (root / "b").symlink_to(tmp_path / "e")
    (root / "b" / "back").symlink_to(root)  # which is tmp_path / "e" / "back"
    (root / "self").symlink_to(root / "self")
    (root / "c").symlink_to(root / "a")
    (root / "l.jpg").symlink_to(root / "a" / "x.jpg")
    found = find_photographs([str(root)], "seg")
    assert [one.path for one in found] == [root / "a/x.jpg", root / "b/y.jpg"]
    assert capsys.readouterr().out == (
        f"{root}: 2 photographs; 2 links to others of them are left out; 1 links to a folder that "
        f"they lie in are not followed ({root / 'b/back'}); 1 links lead nowhere "
        f"({root / 'self'})\n"
    )
    found = find_photographs([str(root)], "seg", links=True)
    names = ["a/x.jpg", "b/y.jpg", "c/x.jpg", "l.jpg"]
    assert [one.path for one in found] == [root / name for name in names]


def test_a_linked_folder_for_outputs_is_left_out(tmp_path):
    _touch(tmp_path / "d" / "a.jpg", tmp_path / "out" / "a_seg.png")
    (tmp_path / "d" / "made").symlink_to(tmp_path / "out")
    found = find_photographs([str(tmp_path / "d")], "seg", [tmp_path / "out"])
    assert [one.path.name for one in found] == ["a.jpg"]
