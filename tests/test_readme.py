"""Every command of README.md and docs/ is run, at tiny size, or as far as it goes without a
download, a GPU or a data set that is not here; and what the pages name exists.

Commands stand in blocks, or in the README's table of purposes. What is done to each kind:

- on the sample (`data/sample`, `photo.jpg`): run as it stands, on a sample of 11 images of 96 px
- on own photographs in VOC layout (`MINE`): run on two photographs, with TINY's flags added
- VOC 2012 at its default place or in `VOC2012`: run up to the message that names what is missing
- tables: planned (`--dry_run`)
- all others, and those of torchrun: parsed
- `make` targets are looked for in the Makefile; `git` and `pip` lines are not run
"""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tool.errors import InputError
from tool.file.images import read_image, read_mask
from voc12.class_list import load_class_list
from voc12.labels import load_labels
from voc12.lists import load_ids
from voc12.sample.make import make_sample

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "docs" / "log" / "README.md", ROOT / "benchmarks" / "RESULTS.md"]
LOG = sorted((ROOT / "docs" / "log").glob("2*.md"))
TINY = {
    "train_cpn.py": "--crop_size 64 --resize_long 64 80 --grid_sizes 32 --batch_size 2 "
    "--max_epoches 1 --num_workers 0",
    "infer_cam.py": "--scales 0.5 --num_workers 0",
    "make_masks.py": "--num_workers 1",
}
PARSED_ONLY = ("export_seg.py", "voc12.prepare")


def blocks(page: Path, language: str = "") -> list[str]:
    """The contents of the page's code blocks of a language, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    found = [block for named, block in found if named == language]
    return [re.sub(r"\\\n\s*", "", block) for block in found]


def commands() -> list[str]:
    """The lines of all blocks that are commands, and the commands of README's table."""
    lines = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines += re.findall(r"^\|[^|]*\| `([^`|]+)` \|", readme, flags=re.MULTILINE)
    starts = r"(python|make|pip|git|torchrun|srun|RANK=\S+ WORLD_SIZE=4 python) "
    return list(dict.fromkeys(line for line in lines if re.match(starts, line)))


COMMANDS = commands()
PYTHON = [command for command in COMMANDS if command.startswith("python ")]
ON_SAMPLE = [c for c in PYTHON if "data/sample" in c or ("photo.jpg" in c and "try.pth" in c)]
OWN = [c for c in PYTHON if "MINE" in c]
TABLES = [c for c in PYTHON if "reproduce.py" in c]
PARSED = [c for c in PYTHON if any(name in c for name in PARSED_ONLY)]
ON_VOC = [c for c in PYTHON if "VOC2012" in c and c not in TABLES + PARSED]


def parse(command: str, extra: str = ""):
    """(module, its parsed arguments) of a `python script.py ...` or `python -m module ...` line,
    extra flags after its own.
    """
    words = shlex.split(f"{command} {extra}", comments=True)[1:]
    words = words[1:] if words[0] == "-m" else [words[0].removesuffix(".py"), *words[1:]]
    module = importlib.import_module(words[0])
    return module, module.parse_args(words[1:])


def test_the_pages_have_the_commands_of_the_road() -> None:
    scripts = {shlex.split(command)[1] for command in PYTHON}
    made_of_commands = {"demo.py"}  # `make demo`
    assert {path.name for path in ROOT.glob("*.py")} - made_of_commands <= scripts


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.startswith("make ")]
)
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("command", ON_VOC)
def test_voc_commands_say_what_is_missing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module, args = parse(command)
    with pytest.raises(
        InputError, match=r"not found: (data/VOCdevkit/VOC2012|CPN\.pth|results/(cpn|irn|aff|seg)/)"
    ):
        module.main(args)


@pytest.mark.parametrize("command", PYTHON)
def test_every_command_parses(command: str) -> None:
    parse(command)


@pytest.mark.parametrize("command", TABLES)
def test_tables_are_planned(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    module, args = parse(command, "--dry_run")
    module.main(args)
    assert "python train_cpn.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith(("torchrun", "srun", "RANK"))]
)
def test_commands_of_several_processes_name_scripts_and_their_flags(command: str) -> None:
    script, flags = re.search(r"(\w+\.py)([^')]*)", command).groups()
    parse(f"python {script}{flags}")


def test_sample_commands_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    make_sample("data/sample", images=8, val_images=3, size=96)
    shutil.copy(next(Path("data/sample/JPEGImages").glob("sample_val_*.jpg")), "photo.jpg")
    assert len(ON_SAMPLE) == 4
    for command in ON_SAMPLE:
        module, args = parse(command)
        module.main(args)
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "photo.jpg: " in printed
    assert Path("results/try/try.pth").is_file()
    assert len(list(Path("results/try/cam_val").glob("*.npz"))) == 3
    assert list(Path("results/try/png").glob("*.png"))
    assert list(Path().glob("photo_*.png"))


def test_own_photographs_become_masks_by_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_sample("sample", images=2, val_images=1, size=96)
    Path("photos").mkdir()
    for index, path in enumerate(sorted(Path("sample/JPEGImages").glob("*.jpg"))[:2], start=1):
        shutil.copy(path, f"photos/photo {index}.jpg")
    Path("tags.csv").write_text("image,tags\nphoto 1.jpg,cat\nphoto 2.jpg,cat;dog\n")
    assert len(OWN) == 4
    for command in OWN:
        module, args = parse(command, TINY.get(shlex.split(command)[1], ""))
        module.main(args)
    assert load_ids("MINE", "tagged") == ["photo_1", "photo_2"]
    labels = load_labels("MINE", load_ids("MINE", "tagged"), load_class_list(Path("MINE")))
    np.testing.assert_array_equal(labels, [[1, 0], [1, 1]])
    for index in (1, 2):
        mask = read_mask(f"results/mine/mask/photo_{index}.png")
        assert mask.shape == read_image(f"photos/photo {index}.jpg").shape[:2]


def headings(page: Path) -> set[str]:
    """The page's headings as GitHub spells them in links."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *LOG], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_code_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"\b(?:tool|network|voc12|tests|benchmarks|flags|experiments)/[\w/]+\.\w+", text
    )
    assert not [path for path in named if not (ROOT / path).is_file()]


@pytest.mark.parametrize("page", [*PAGES, *LOG], ids=lambda page: page.name)
def test_prose_is_100_columns_wide(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert not [line for line in prose.splitlines() if len(line) > 100 and line[0] != "|"]


def test_the_map_has_every_module_and_no_other() -> None:
    (tree,) = (b for b in blocks(ROOT / "CONTRIBUTING.md") if b.startswith("train_cpn.py"))
    named = set(re.findall(r"\b\w+\.py\b", tree))
    rooms = ("network", "tool", "voc12", "flags", "experiments")
    modules = {path for room in rooms for path in (ROOT / room).rglob("*.py")}
    there = {path.name for path in [*modules, *ROOT.glob("*.py")]} - {"__init__.py"}
    assert there - named == set(), "add them to the map in CONTRIBUTING.md"
    assert named - there - {"figures.py"} == set(), "take them off the map in CONTRIBUTING.md"


def test_the_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
