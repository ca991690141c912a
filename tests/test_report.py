"""The page of a run: numbers agree with the evaluation, text is escaped, a browser opens it without complaint and the filter works."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation_cam import evaluate_cams, evaluate_masks
from report import evaluate_stages, main, parse_args, training_curves
from tests.conftest import PETS
from tests.seeds import write_seeds
from tests.synthetic import write_voc_tree
from tool.errors import InputError
from tool.images import read_mask, write_mask
from tool.report_page import bars, heat_table
from voc12.constants import MASK_DIR
from voc12.lists import load_ids

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(data set, folder of a run with seeds, masks and a log), class names made to break a careless page."""
    root = tmp_path_factory.mktemp("report")
    data = write_voc_tree(root / "data", {"train": 5}, class_count=3, classes=["cat", "<script>alert(1)</script>", 'o"wl'])
    write_seeds(data, root / "run" / "cam", lists=("train",))
    for index, name in enumerate(load_ids(data, "train")):
        mask = np.roll(read_mask(data / MASK_DIR / f"{name}.png"), 2 * index, axis=1)
        write_mask(root / "run" / "mask" / f"{name}.png", np.where(mask == 255, 0, mask), {"stage": "irn_mask"})
    lines = [{"kind": "start"}, *({"kind": "train", "step": i, "loss": 1 / i, "loss_cls": 0.5 / i, "lr": 1} for i in (1, 2, 3))]
    (root / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[2] | {"loss": 9.0}]))
    return data, root / "run"


def _page(run, out, *flags):
    data, folder = run
    words = ["--voc12_root", data, "--list", "train", "--refined_dir", folder / "cam", "--mask_dir", folder / "mask"]
    main(parse_args([str(word) for word in [*words, "--session_dir", folder, "--num_workers", 1, "--out", out, *flags]]))
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return out, _page(run, out)


def test_numbers_are_the_evaluations(run, page):
    data, folder = run
    ids, classes = load_ids(data, "train"), tuple((data / "classes.txt").read_text().splitlines())
    seeds = evaluate_cams(ids, folder / "cam", data / MASK_DIR, classes)
    masks = evaluate_masks(ids, folder / "mask", data / MASK_DIR, classes)
    text = page[1]
    for evaluation in (seeds, masks):
        assert f"<td class=number>{evaluation.scores.miou_skip[evaluation.best('skip')]:.2f}</td>" in text
    assert f"best {seeds.thresholds[seeds.best('skip')]:.2f}</text>" in text
    assert f'<span class="value">{masks.scores.iou[0, 0]:.1f}</span>' in text
    scores = [float(value) for value in re.findall(r"<figcaption><b>([\d.]+)</b>", text)]
    assert scores == sorted(scores)
    assert len(scores) == 5
    assert scores[-1] == 100  # the mask that was not moved
    assert text.count("data:image/jpeg;base64,") == 5 * 5  # photograph, ground truth, CAM, seed, pseudo mask


def test_page_needs_nothing_and_escapes_everything(page):
    sources = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))
            assert tag != "script" or not attributes

    Reader().feed(page[1])
    assert all(source.startswith("data:") for source in sources)
    assert "<script>alert" not in page[1]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page[1]
    assert "o&quot;wl" in page[1]


def test_limit_spreads_from_worst_to_best(run, page, tmp_path):
    every = re.findall(r"<figcaption><b>([\d.]+)</b>", page[1])
    some = re.findall(r"<figcaption><b>([\d.]+)</b>", _page(run, tmp_path / "r.html", "--limit", "3"))
    assert some == [every[0], every[2], every[4]]


def test_later_iterations_count(run):
    curves = training_curves(run[1])
    assert curves == {"loss": [(1, 1), (2, 9.0), (3, 1 / 3)], "loss_cls": [(1, 0.5), (2, 0.25), (3, 0.5 / 3)]}


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(InputError, match=r"no log.jsonl in .*; check --session_dir"):
        training_curves(tmp_path)
    with pytest.raises(InputError, match="no stage given"):
        evaluate_stages(parse_args(["--voc12_root", str(run[0])]), ["a"], PETS)
    with pytest.raises(InputError, match=r"folder of stage prediction not found: .*nowhere; check --pred_dir"):
        _page(run, tmp_path / "r.html", "--pred_dir", str(tmp_path / "nowhere"))


def test_bars_and_heat_leave_out_what_does_not_occur():
    assert re.findall(r"<span>(\w+)</span>", bars({"a": 50.0, "b": float("nan")})) == ["a"]
    table = heat_table(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]), ["x", "y", "z"])
    assert "y" not in re.findall(r"<t[hd]>(?:<span>)?(\w)", table)
    assert ">75<" in table
    assert ">25<" in table


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome")
@pytest.mark.parametrize(("address", "expected"), [("", 5), ("#class=0", 2)])
def test_in_a_browser(page, address, expected):
    # Image i shows class i mod 3, every second one the next class too: cats (0) are in images 0 and 3.
    out, text = page
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    done = subprocess.run([*words, "--dump-dom", f"{out.as_uri()}{address}"], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr  # neither errors nor anything that the content security policy stopped
    cards = re.findall(r'<figure class="card" data-classes="([\d ]*)"( hidden="")?>', done.stdout)
    shown = [classes.split() for classes, hidden in cards if not hidden]
    wanted = [line for line in re.findall(r'data-classes="([\d ]*)"', text) if not address or "0" in line.split()]
    assert [" ".join(classes) for classes in shown] == wanted
    assert len(cards) == 5
    assert f'id="count" class="soft">{len(shown)} of 5 images</span>' in done.stdout
    assert len(shown) == expected
