"""The page of a run: numbers agree with the evaluation, text is escaped, a browser opens it without complaint and the filter works."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from evaluation_cam import evaluate_cams, evaluate_masks
from report import evaluate_stages, main, parse_args, training_curves
from tests.conftest import PETS
from tests.seeds import write_seeds
from tests.synthetic import write_voc_tree
from tool.cam_file import CamFile, load_cam, save_cam
from tool.crf import threshold_mask
from tool.errors import InputError
from tool.images import read_image, read_mask, write_mask
from tool.overlay import mask_overlay, overlay
from tool.report_page import bars, heat_table, jpeg_uri
from voc12.auto_threshold import choose_threshold
from voc12.constants import MASK_DIR
from voc12.lists import image_path, load_ids, mask_path

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(data set, folder of a run with seeds, masks and a log), class names made to break a careless page."""
    root = tmp_path_factory.mktemp("report")
    data = write_voc_tree(root / "data", {"train": 5}, class_count=3, classes=["cat", "<img src=x onerror=alert(1)>", 'o"wl'])
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
    best, auto = seeds.best("skip"), choose_threshold(data, ids, folder / "cam")
    at_auto = seeds.scores.miou_skip[seeds.thresholds.index(auto)]
    assert f"<td class=number>{at_auto:.2f}</td><td class=number>{auto:.2f}</td><td class=number>5</td>" in text
    assert f"best {seeds.thresholds[best]:.2f}</text>" in text
    assert f"without masks {auto:.2f}</text>" in text
    first, last = (re.search(r'points="([^"]*)"', text)[1].split()[index].split(",")[0] for index in (0, -1))
    places = [float(x) for x in re.findall(r'<line x1="([\d.]+)" [^>]*/><text', text)]
    wanted = sorted((seeds.thresholds[best], auto))
    assert places == pytest.approx([float(first) + x * (float(last) - float(first)) for x in wanted], abs=0.1)
    assert f'<span class="value">{masks.scores.iou[0, 0]:.1f}</span>' in text
    scores = [float(value) for value in re.findall(r"<figcaption><b>([\d.]+)</b>", text)]
    assert scores == sorted(scores)
    assert len(scores) == 5
    assert scores[-1] == 100  # the mask that was not moved
    shares = 100 * masks.confusion[0] / masks.confusion[0].sum(axis=1, keepdims=True)
    cells = re.findall(r'<td style="background:rgba[^>]*>(\d*)</td>', text)
    assert cells == [f"{share:.0f}" if share >= 0.5 else "" for share in shares.ravel()]


def test_pictures_are_those_of_the_image(run, page):
    data, folder = run
    text = page[1]
    assert text.count("data:image/jpeg;base64,") == 5 * 5  # photograph, ground truth, CAM, seed, pseudo mask
    card = text[text.index('<figure class="card"') :]  # the worst image
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="([^"]*) of (\w+)"', card)[:5]
    assert [title for _, title, _ in found] == ["photograph", "ground truth", "refined CAM", "seed, refined CAM", "pseudo mask"]
    name = found[0][2]
    image, truth = read_image(image_path(data, name)), read_mask(mask_path(data, name))
    cam = load_cam(folder / "cam" / f"{name}.npz")
    best = re.search(r"best (0\.\d\d)</text>", text)[1]
    expected = [
        image,
        mask_overlay(image, truth),
        overlay(image, cam.cam.max(axis=0)),
        mask_overlay(image, threshold_mask(cam.cam, cam.keys, float(best))),
        mask_overlay(image, read_mask(folder / "mask" / f"{name}.png")),
    ]
    assert [f"data:image/jpeg;base64,{encoded}" for encoded, _, _ in found] == [jpeg_uri(picture) for picture in expected]
    assert len({encoded for encoded, _, _ in found}) == 5


def test_page_needs_nothing_and_escapes_everything(page):
    sources = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))
            assert tag != "script" or not attributes

    Reader().feed(page[1])
    assert all(source.startswith("data:") for source in sources)
    assert "<img src=x" not in page[1]
    assert "&lt;img src=x onerror=alert(1)&gt;" in page[1]
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


def test_files_of_another_stage_are_refused(run, tmp_path):
    _, folder = run
    with pytest.raises(
        InputError, match=r"--cam_dir is for files of stage cam, .*npz is of stage cam_refined; give .* as --refined_dir"
    ):
        _page(run, tmp_path / "r.html", "--cam_dir", str(folder / "cam"))
    with pytest.raises(InputError, match=r"--crf_dir is for files of stage seed_crf, .* as --refined_dir"):
        _page(run, tmp_path / "r.html", "--crf_dir", str(folder / "cam"))
    assert not (tmp_path / "r.html").exists()


def test_two_curves_mark_their_own_thresholds(run, tmp_path):
    data, folder = run
    for name in load_ids(data, "train"):
        cam = load_cam(folder / "cam" / f"{name}.npz")
        save_cam(tmp_path / "plain", CamFile(name, cam.keys, cam.cam**2, cam.size, cam.meta | {"stage": "cam"}))
    text = _page(run, tmp_path / "r.html", "--cam_dir", str(tmp_path / "plain")).split("<h2>Training")[0]
    marks = re.findall(r'<line x1="[^>]*stroke="(#\w+)"[^>]*/><text[^>]*>([^<]*)</text>', text)
    colours = dict(re.findall(r'stroke="(#\w+)" stroke-width="3"/>\n<text[^>]*>([^<]*)</text>', text))
    assert len(marks) == 4
    assert all(words.startswith(f"{colours[colour]}: ") for colour, words in marks)


@pytest.fixture
def own(run, tmp_path):
    """A copy of the data set to spoil, with the run."""
    return shutil.copytree(run[0], tmp_path / "data"), run[1]


def test_an_image_without_classes_has_no_card(own, tmp_path):
    name = load_ids(own[0], "train")[0]
    write_mask(mask_path(own[0], name), np.full_like(read_mask(mask_path(own[0], name)), 255))
    text = _page(own, tmp_path / "r.html")
    assert "4 of 5 images, worst first" in text
    assert f"photograph of {name}" not in text


def test_a_mask_of_another_size_is_named(own, tmp_path):
    name = load_ids(own[0], "train")[0]
    Image.fromarray(read_image(image_path(own[0], name)).transpose(1, 0, 2)).save(image_path(own[0], name))
    flags = [
        "--voc12_root",
        own[0],
        "--list",
        "train",
        "--mask_dir",
        own[1] / "mask",
        "--num_workers",
        1,
        "--out",
        tmp_path / "r.html",
    ]
    with pytest.raises(InputError, match=rf"{name}.jpg is of size \(80, 60\), its mask \(60, 80\)"):
        main(parse_args([str(word) for word in flags]))


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
