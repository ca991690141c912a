"""Names that tags have and that are hardly classes: asked about, or said in a line."""

import json

import pytest

from tool.errors import InputError
from tool.run.notes import forget_notes
from voc12.label_file.tag_names import tag_names


def names_of(folder, *tags):
    """The classes of photographs a, b, ... with these tags."""
    path = folder / "a.csv"
    rows = [f"{chr(97 + n)}.jpg\t{tag}\n" for n, tag in enumerate(tags)]
    path.write_text("image\ttags\n" + "".join(rows))
    forget_notes()
    return tag_names(path, [chr(97 + n) for n in range(len(tags))])


@pytest.mark.parametrize(
    "names",
    [
        ("traffic light", "light bulb"),
        ("none of the above", "cat"),
        ("black & white", "colour"),
        ("C++", "C#"),
        ('TV 55"', "16 mm film"),
        ("7", "cat"),
        ("v1.0", "v10"),
        ("no parking", "stop"),
        ("St. Bernard", "Dr. Who"),
        ("rock'n'roll", "jazz"),
        ("fish and chips", "fish"),
        ("train", "test tube"),
        ("🐱", "🐶"),
        ("می‌شود", "猫"),
        ("👩‍🌾", "cat"),
        ("Fanta (0.5 l)", "1:1 scale"),
        ("x", "y"),
        ("2020 Golf", "bus"),
        ("glass", "glasses"),
    ],
)
def test_names_that_stay(tmp_path, names):
    assert names_of(tmp_path, *names) == tuple(sorted(names))


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (("big  cat", "big cat", "dog"), "big cat|dog"),
        (("cat‍", "cat", "dog​"), "cat|dog"),
        (('""cat""', "„cat“", "'cat'", "dog"), "cat|dog"),
        (("cat food", "cat food"), "cat food"),
        (("cat", "''", "#NV", "n.a.", "TODO"), "cat"),
        (("cat", "bg", "no_class", "No-class"), "cat"),
    ],
)
def test_one_class_in_other_spellings(tmp_path, tags, names):
    assert "|".join(names_of(tmp_path, *tags)) == names


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        *(
            (("cat", tag), f"is '{tag}' a class? Where a photograph shows none of them write 'none")
            for tag in ("-", "?", "—", "...", "no", "0", "nein", "no cat", "not cat", "no_cat")
        ),
        (("cat", "#REF!"), "'#REF!' is an error of a spreadsheet's formula; correct it"),
        (("cat", "#NAME?"), "'#NAME?' is an error of a spreadsheet's formula; correct it"),
        (("traffic_light", "traffic light"), "are 'traffic light' and 'traffic_light' one class?"),
        (("traffic-light", "TrafficLight"), "are 'TrafficLight' and 'traffic-light' one class?"),
        (("cat.", "cat"), "are 'cat' and 'cat.' one class? Write one of them"),
        *(
            (("cat", "dog", tag), f"is '{tag}' one class, or cat and dog? Part tags by ';', or")
            for tag in ("cat+dog", "cat & dog", "cat and dog", "cat，dog", "cat、dog")
        ),
        (("cat:0.91", "dog"), "does 'cat:0.91' have a score behind the class? Take it out"),
        (("cat=0.9", "dog"), "does 'cat=0.9' have a score behind the class? Take it out"),
        (("cat (90%)", "dog"), "does 'cat (90%)' have a score behind the class? Take it out"),
        (("train", "val"), "are its tags train, val classes? They are called as parts of a data"),
        (("2023-01-02", "2023-01-03"), "classes? They are called as dates; call the column of t"),
        (("640x480", "800x600"), "classes? They are called as sizes; call the column of the ta"),
        (("present", "absent"), "has absent, present for tags: of which class? Call the column"),
    ],
)
def test_what_is_hardly_a_class_is_asked_about(tmp_path, tags, message):
    with pytest.raises(InputError) as error:
        names_of(tmp_path, *tags)
    assert str(error.value).startswith(str(tmp_path / "a.csv"))
    assert message in str(error.value)


def test_singular_and_plural_are_said(tmp_path, capsys):
    assert names_of(tmp_path, "cat", "cats") == ("cat", "cats")
    said = "'cat' and 'cats' are two classes; write one of them for one\n"
    assert f"{tmp_path / 'a.csv'}: {said}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("present", "absent"),
        ("☑", "☐"),
        ("sí", "no"),
        ("J", "N"),
        ("+", "-"),
        ("да", "нет"),
        ("VERO", "FALSO"),
        ("tak", "nie"),
        ("On", "Off"),
        ("100%", "0%"),
        ("1,0", "0,0"),
        ("✔️", "✘"),
    ],
)
def test_yes_and_no_in_other_words(tmp_path, yes, no):
    (tmp_path / "a.csv").write_text(f"image\tcat\na.jpg\t{yes}\nb.jpg\t{no}\n")
    assert tag_names(tmp_path / "a.csv", ["a", "b"]) == ("cat",)


def test_tags_in_json_are_asked_about_as_well(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a": ["cat"], "b": ["no cat"]}))
    with pytest.raises(InputError, match="is 'no cat' a class"):
        tag_names(tmp_path / "a.json", ["a", "b"])
