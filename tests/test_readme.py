"""Every command of the README is run: those on the sample data set as they stand, on a smaller sample; those that need VOC 2012 or
downloaded weights up to the message that says what is missing; tables as a dry run; `make` targets are checked against the Makefile.
"""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tool.errors import InputError
from voc12.sample import make_sample

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if re.match(r"(python|make|pip|git) ", line)]
PYTHON = [command for command in COMMANDS if command.startswith("python ")]


def parse(command: str):
    """(module, its parsed arguments) of a `python script.py ...` or `python -m module ...` line."""
    words = shlex.split(command)[1:]
    words = words[1:] if words[0] == "-m" else [words[0].removesuffix(".py"), *words[1:]]
    module = importlib.import_module(words[0])
    return module, module.parse_args(words[1:])


def test_the_readme_has_the_commands_of_the_road() -> None:
    scripts = {shlex.split(command)[1] for command in PYTHON}
    assert {"train_cpn.py", "infer_cam.py", "evaluation_cam.py", "-m"} <= scripts


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in PYTHON if "VOC2012" in command and "prepare" not in command])
def test_voc_commands_say_what_is_missing(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module, args = parse(command)
    with pytest.raises(InputError, match=r"not found: (data/VOCdevkit/VOC2012|results/(cpn|irn|seg)/)"):
        module.main(args)


def test_prepare_parses() -> None:
    _, args = parse(next(command for command in PYTHON if "prepare" in command))
    assert args.voc12_root == Path("data/VOCdevkit/VOC2012")


@pytest.mark.parametrize("command", [command for command in PYTHON if "reproduce.py" in command])
def test_tables_are_planned(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    module, args = parse(command)
    args.dry_run = True
    module.main(args)
    assert "python train_cpn.py" in capsys.readouterr().out


def test_sample_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    make_sample("data/sample", images=8, val_images=3, size=96)
    shutil.copy(next(Path("data/sample/JPEGImages").glob("sample_val_*.jpg")), "photo.jpg")
    commands = [command for command in PYTHON if "data/sample" in command or "photo.jpg" in command]
    assert len(commands) == 4
    for command in commands:
        module, args = parse(command)
        module.main(args)
    printed = capsys.readouterr().out
    assert "mIoU" in printed
    assert "photo.jpg: " in printed
    assert Path("results/try/try.pth").is_file()
    assert len(list(Path("results/try/cam_val").glob("*.npz"))) == 3
    assert list(Path("results/try/png").glob("*.png"))
    assert list(Path().glob("photo_*.png"))
