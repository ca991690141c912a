"""The page of a run: numbers agree with the evaluation, text is escaped, a browser opens it without
complaint and the filter works.
"""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from report import evaluate_stages, main, parse_args, training_curves, training_log, verdict_words
from tests.browser import BROWSER, open_tab
from tests.conftest import PETS
from tests.seeds import write_seeds
from tests.synthetic import write_voc_tree
from tool.errors import InputError
from tool.expand.crf import threshold_mask
from tool.expand.seed import WALK_STAGE
from tool.file.cam_file import CamFile, load_cam, save_cam
from tool.file.images import read_image, read_mask, write_mask
from tool.mask_values import voc_palette
from tool.metrics import confusion_matrix, iou_table
from tool.show import page as page_module
from tool.show import report_page, viewer
from tool.show.overlay import mask_overlay
from tool.show.report_page import (
    Card,
    Layer,
    StageView,
    bars,
    heat_table,
    jpeg_uri,
    mask_uri,
)
from voc12.constants import MASK_DIR
from voc12.evaluation import evaluate_cams, evaluate_masks
from voc12.lists import image_path, load_ids, mask_path
from voc12.threshold_choice import choose_threshold


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(data set, folder of a run with seeds, masks and a log), class names made to break a careless
    page.
    """
    root = tmp_path_factory.mktemp("report")
    data = write_voc_tree(
        root / "data",
        {"train": 5},
        class_count=3,
        classes=["cat", "<img src=x onerror=alert(1)>", 'o"wl'],
    )
    write_seeds(data, root / "run" / "cam", lists=("train",))
    for index, name in enumerate(load_ids(data, "train")):
        mask = np.roll(read_mask(data / MASK_DIR / f"{name}.png"), 2 * index, axis=1)
        write_mask(
            root / "run" / "mask" / f"{name}.png",
            np.where(mask == 255, 0, mask),
            {"stage": "irn_mask"},
        )
    lines = [
        {"kind": "start"},
        *(
            {"kind": "train", "step": i, "loss": 1 / i, "loss_cls": 0.5 / i, "lr": 1}
            for i in (1, 2, 3)
        ),
    ]
    (root / "run" / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, lines[2] | {"loss": 9.0}])
    )
    return data, root / "run"


def _page(run, out, *flags):
    data, folder = run
    words = [
        "--voc12_root",
        data,
        "--list",
        "train",
        "--refined_dir",
        folder / "cam",
        "--mask_dir",
        folder / "mask",
    ]
    main(
        parse_args(
            [
                str(word)
                for word in [
                    *words,
                    "--session_dir",
                    folder,
                    "--num_workers",
                    1,
                    "--out",
                    out,
                    *flags,
                ]
            ]
        )
    )
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
        assert (
            f"<td class=number>{evaluation.scores.miou_skip[evaluation.best('skip')]:.2f}</td>"
            in text
        )
        place = evaluation.best("skip")
        low, high = evaluation.interval(place, "skip")
        assert f"<td class=number>{low:.2f} to {high:.2f}</td>" in text
        sizes = [
            f"{score.miou:.2f} ({score.images})" if score.images else ""
            for score in evaluation.by_size(place)
        ]
        assert "".join(f"<td class=number>{cell}</td>" for cell in ["5", *sizes]) in text
    assert "<th class=number>objects under 5 %</th>" in text
    best, auto = seeds.best("skip"), choose_threshold(data, ids, folder / "cam")
    at_auto = seeds.scores.miou_skip[seeds.thresholds.index(auto)]
    assert (
        f"<td class=number>{at_auto:.2f}</td><td class=number>{auto:.2f}</td><td "
        "class=number>5</td>" in text
    )
    assert f"best {seeds.thresholds[best]:.2f}</text>" in text
    assert f"without masks {auto:.2f}</text>" in text
    first, last = (
        re.search(r'points="([^"]*)"', text)[1].split()[index].split(",")[0] for index in (0, -1)
    )
    places = [float(x) for x in re.findall(r'<line x1="([\d.]+)" [^>]*/><text', text)]
    wanted = sorted((seeds.thresholds[best], auto))
    assert places == pytest.approx(
        [float(first) + x * (float(last) - float(first)) for x in wanted], abs=0.1
    )
    assert f'<span class="value">{masks.scores.iou[0, 0]:.1f}</span>' in text
    scores = [float(value) for value in re.findall(r"<figcaption><b>([\d.]+)</b>", text)]
    assert scores == sorted(scores)
    assert len(scores) == 5
    assert scores[-1] == 100  # the mask that was not moved
    shares = 100 * masks.confusion[0] / masks.confusion[0].sum(axis=1, keepdims=True)
    cells = re.findall(r'<td style="background:rgba[^>]*>(\d*)</td>', text)
    assert cells == [f"{share:.0f}" if share >= 0.5 else "" for share in shares.ravel()]


def _decoded(uri):
    kind, encoded = re.fullmatch(r"data:image/(\w+);base64,(.*)", uri).groups()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        assert image.format == kind.upper()
        return np.array(image.convert("RGB"))


def _data(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1])


def test_pictures_are_those_of_the_image(run, page):
    data, folder = run
    found = _data(page[1])
    card, stages = found["cards"][0], found["stages"]  # the worst image
    best = round(100 * float(re.search(r"best (0\.\d\d)</text>", page[1])[1]))
    assert stages == [{"name": "refined CAM", "t": best}, {"name": "pseudo mask", "t": None}]
    name = card["id"]
    image, truth = read_image(image_path(data, name)), read_mask(mask_path(data, name))
    assert card["photograph"] == jpeg_uri(image)
    # red: hundredths that the score exceeds; green: the mask value
    np.testing.assert_array_equal(_decoded(card["truth"])[..., 1], truth)
    given = read_mask(folder / "mask" / f"{name}.png")
    np.testing.assert_array_equal(_decoded(card["layers"][1])[..., 1], given)
    cam, pixels = load_cam(folder / "cam" / f"{name}.npz"), _decoded(card["layers"][0])
    for threshold in (0, 17, best, 99):
        label = np.where(pixels[..., 0] > threshold, pixels[..., 1], 0)
        wanted = threshold_mask(cam.cam, cam.keys, threshold / 100)
        assert (label != wanted).mean() < 0.002, threshold  # scores that are a hundredth
    thumbnail = re.search(r'<figure class="card".*?<img src="([^"]*)"', page[1])[1]
    assert thumbnail == jpeg_uri(mask_overlay(image, given))
    assert len({card["photograph"] for card in found["cards"]}) == 5


def test_best_median_and_worst_stand_first_with_all_stages(run, page):
    data, folder = run
    text = page[1][: page[1].index("<h2>IoU of classes")]
    ids = [card["id"] for card in _data(page[1])["cards"]]
    assert re.findall(r'class="what">(\w+): <b>[\d.]+</b><bdi>(\w+)<', text) == [
        ("best", ids[4]),
        ("median", ids[2]),
        ("worst", ids[0]),
    ]
    assert [int(place) for place in re.findall(r'data-card="(\d)"', text)] == [4, 2, 0]
    row = text[text.index('data-card="0"') :]
    pictures = re.findall(r'<img src="([^"]*)"', row)
    assert len(pictures) == 4
    image, truth = read_image(image_path(data, ids[0])), read_mask(mask_path(data, ids[0]))
    given = read_mask(folder / "mask" / f"{ids[0]}.png")
    assert pictures[1] == jpeg_uri(mask_overlay(image, truth))
    assert pictures[3] == jpeg_uri(mask_overlay(image, given))


def test_legends_name_the_class_that_only_a_mask_has(run, tmp_path):
    data, folder = run
    (name, *_) = load_ids(data, "train")
    absent = next(
        value for value in (1, 2, 3) if not (read_mask(mask_path(data, name)) == value).any()
    )
    masks = tmp_path / "mask"
    masks.mkdir()
    for one in load_ids(data, "train"):
        mask = read_mask(folder / "mask" / f"{one}.png")
        if one == name:
            mask[:9, :9] = absent
        write_mask(masks / f"{one}.png", mask, {"stage": "irn_mask"})
    text = _page(run, tmp_path / "page.html", "--mask_dir", masks)
    card = next(card for card in _data(text)["cards"] if card["id"] == name)
    assert absent - 1 in card["coloured"]
    figure = next(part for part in text.split("<figure")[1:] if f"<bdi>{name}</bdi>" in part)
    classes = re.search(r'data-classes="([^"]*)"', figure).group(1).split()
    assert str(absent - 1) not in classes  # the filter goes by the ground truth


def test_page_needs_nothing_and_escapes_everything(page):
    sources = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))
            assert tag != "script" or attributes in (
                [],
                [("type", "application/json"), ("id", "data")],
            )

    Reader().feed(page[1])
    assert all(source.startswith("data:") for source in sources)
    assert "<img src=x" not in page[1]
    assert "&lt;img src=x onerror=alert(1)&gt;" in page[1]
    assert "o&quot;wl" in page[1]
    assert _data(page[1])["classes"][1:] == ["cat", "<img src=x onerror=alert(1)>", 'o"wl']


def test_limit_spreads_from_worst_to_best(run, page, tmp_path):
    every = re.findall(r"<figcaption><b>([\d.]+)</b>", page[1])
    some = re.findall(
        r"<figcaption><b>([\d.]+)</b>", _page(run, tmp_path / "r.html", "--limit", "3")
    )
    assert some == [every[0], every[2], every[4]]


def test_later_iterations_count(run):
    curves = training_curves(training_log(run[1]))
    assert curves == {
        "loss": [(1, 1), (2, 9.0), (3, 1 / 3)],
        "loss_cls": [(1, 0.5), (2, 0.25), (3, 0.5 / 3)],
    }


def test_a_training_that_was_thrown_away_says_nothing(tmp_path):
    """A log goes on under --resume never, from its last start."""
    old = [{"kind": "start"}, {"kind": "train", "step": 1, "loss": 9.0}]
    old += [{"kind": "train", "step": 5, "loss": 9.0}, {"kind": "verdict", "failures": ["lost"]}]
    new = [{"kind": "start"}, {"kind": "train", "step": 1, "loss": 0.5}, {"kind": "resume"}]
    new += [{"kind": "train", "step": 2, "loss": 0.25}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, old + new)))
    log = training_log(tmp_path)
    assert verdict_words(log) == (False, "")
    assert training_curves(log) == {"loss": [(1, 0.5), (2, 0.25)]}


def test_losses_that_are_not_finite_are_counted_and_left_out(run, tmp_path, capsys):
    lines = [{"kind": "train", "step": 1, "loss": float("nan")}]
    lines += [{"kind": "train", "step": 2, "loss": 0.0}, {"kind": "train", "step": 3, "loss": 0.0}]
    lines += [{"kind": "train", "step": 4, "loss": float("inf")}]
    lines += [{"kind": "train", "step": 10**400, "loss": 10**400}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert training_curves(training_log(tmp_path)) == {"loss": [(2, 0.0), (3, 0.0)]}
    assert "note: 3 losses of the log are not finite" in capsys.readouterr().out
    assert "Training" in _page(run, tmp_path / "page.html", "--session_dir", tmp_path)


def test_a_loss_that_is_the_whole_is_drawn_once(tmp_path):
    line = {"kind": "train", "step": 1, "loss_cls": 0.5, "loss": 0.5, "loss_tcp": 0.25}
    (tmp_path / "log.jsonl").write_text(json.dumps(line))
    assert training_curves(training_log(tmp_path)) == {"loss": [(1, 0.5)], "loss_tcp": [(1, 0.25)]}


@pytest.mark.parametrize(
    ("failures", "says", "place"),
    [
        ([], "No sign of a failed training", "</div></div>"),
        (["<b>all</b> maps are empty"], "FAILED by its own signs: &lt;b&gt;all", "<h1>"),
        ("none", None, None),
        ([3], None, None),
    ],
)
def test_the_trainings_verdict_on_itself(run, tmp_path, failures, says, place):
    session = tmp_path / "session"
    session.mkdir()
    lines = (run[1] / "log.jsonl").read_text().splitlines()
    old = {"kind": "verdict", "failures": ["an older one"]}  # the later one counts
    lines += [json.dumps(one) for one in (old, {"kind": "verdict", "failures": failures})]
    (session / "log.jsonl").write_text("\n".join(lines))
    text = _page(run, tmp_path / "page.html", "--session_dir", session)
    assert "an older one" not in text
    assert ("by its own signs" in text) == (failures == ["<b>all</b> maps are empty"])
    if says:
        assert text.count(says) == 1
        assert text.index(place) < text.index(says)
    else:
        assert "No sign" not in text


def test_lines_of_a_log_that_nobody_wrote_are_left_out(tmp_path):
    lines = [
        {"kind": "train", "step": 1, "loss": 0.5},
        {"kind": "train", "loss": 3},
        {"kind": "train", "step": "2", "loss": 3},
        {"kind": "train", "step": 2, "loss": "3"},
        {"kind": ["train"], "step": 3, "loss": 3},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert training_curves(training_log(tmp_path)) == {"loss": [(1, 0.5)]}


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(InputError, match=r"no log.jsonl in .*; check --session_dir"):
        training_curves(training_log(tmp_path))
    with pytest.raises(InputError, match="no stage given"):
        evaluate_stages(parse_args(["--voc12_root", str(run[0])]), ["a"], PETS, None)
    with pytest.raises(
        InputError, match=r"folder of stage prediction not found: .*nowhere; check --pred_dir"
    ):
        _page(run, tmp_path / "r.html", "--pred_dir", str(tmp_path / "nowhere"))


def test_files_of_another_stage_are_refused(run, tmp_path):
    _, folder = run
    with pytest.raises(
        InputError,
        match=r"--cam_dir is for files of stage cam, .*npz is of stage cam_refined; give .* as "
        r"--refined_dir",
    ):
        _page(run, tmp_path / "r.html", "--cam_dir", str(folder / "cam"))
    with pytest.raises(
        InputError, match=r"--crf_dir is for files of stage seed_crf, .* as --refined_dir"
    ):
        _page(run, tmp_path / "r.html", "--crf_dir", str(folder / "cam"))
    assert not (tmp_path / "r.html").exists()


def test_two_curves_mark_their_own_thresholds(run, tmp_path):
    data, folder = run
    for name in load_ids(data, "train"):
        cam = load_cam(folder / "cam" / f"{name}.npz")
        save_cam(
            tmp_path / "plain",
            CamFile(name, cam.keys, cam.cam**2, cam.size, cam.meta | {"stage": "cam"}),
        )
    text = _page(run, tmp_path / "r.html", "--cam_dir", str(tmp_path / "plain")).split(
        "<h2>Training"
    )[0]
    marks = re.findall(r'<line x1="[^>]*stroke="(#\w+)"[^>]*/><text[^>]*>([^<]*)</text>', text)
    colours = dict(
        re.findall(r'stroke="(#\w+)" stroke-width="3"/>\n<text[^>]*>([^<]*)</text>', text)
    )
    assert len(marks) == 4
    assert sorted(colours[colour] for colour, _ in marks) == [*["CAM"] * 2, *["refined CAM"] * 2]
    assert all(re.fullmatch(r"0\.\d\d", words) for _, words in marks)


@pytest.fixture
def own(run, tmp_path):
    """A copy of the data set to spoil, with the run."""
    return shutil.copytree(run[0], tmp_path / "data"), run[1]


def test_an_image_without_classes_has_no_card(own, tmp_path):
    name = load_ids(own[0], "train")[0]
    write_mask(mask_path(own[0], name), np.full_like(read_mask(mask_path(own[0], name)), 255))
    text = _page(own, tmp_path / "r.html")
    assert "4 of 5 images, worst first" in text
    assert name not in [card["id"] for card in _data(text)["cards"]]


def test_a_mask_of_another_size_is_named(own, tmp_path):
    name = load_ids(own[0], "train")[0]
    Image.fromarray(read_image(image_path(own[0], name)).transpose(1, 0, 2)).save(
        image_path(own[0], name)
    )
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
    message = rf"{name}\.png is of size \(60, 80\), its photograph of \(80, 60\)"
    with pytest.raises(InputError, match=message):
        main(parse_args([str(word) for word in flags]))


def test_bars_and_heat_leave_out_what_does_not_occur():
    assert re.findall(r"<bdi>(\w+)</bdi>", bars({"a": 50.0, "b": float("nan")})) == ["a"]
    table = heat_table(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]), ["x", "y", "z"])
    assert "y" not in re.findall(r"<bdi>(\w)", table)
    assert ">75<" in table
    assert ">25<" in table


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome")
    with open_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize(("address", "expected"), [("", 5), ("#class=0", 2)])
def test_filter_of_the_address_in_a_browser(page, browser, address, expected):
    # Image i shows class i mod 3, every second one the next class too: cats (0) are in images 0 and
    # 3.
    browser.open(f"{page[0].as_uri()}{address}")
    found = browser.run(
        "[...document.querySelectorAll('.card:not([hidden])')].map(card => card.dataset.classes)"
    )
    every = re.findall(r'data-classes="([\d ]*)"', page[1])
    assert found == [line for line in every if not address or "0" in line.split()]
    assert len(found) == expected
    assert browser.run("count.textContent") == f"{expected} of 5 images"
    # neither errors nor anything that the content security policy stopped
    assert browser.complaints == []


SHOWN = """new Promise((done, fail) => {
  setTimeout(() => fail("shows " + viewer.dataset.shown + ", not " + ID), 30000);
  const timer = setInterval(() => {
    if (viewer.dataset.shown !== ID) return;
    clearInterval(timer);
    done([...views.querySelectorAll(".iou")].map(one => one.textContent));
  }, 20);
})"""


def _shown(browser, card):
    """The IoUs, once the viewer shows the card."""
    return browser.run(SHOWN.replace("ID", json.dumps(card["id"])))


def test_viewer_slider_and_keys_in_a_browser(run, page, browser):
    browser.open(page[0].as_uri())
    cards = _data(page[1])["cards"]
    browser.run("document.querySelector('.cards [data-card=\"1\"]').click()")
    found = _shown(browser, cards[1])
    names = browser.run("[...views.querySelectorAll('bdi')].map(name => name.textContent)")
    assert names == ["photograph", "ground truth", "refined CAM", "pseudo mask"]
    data, folder = run
    truth = read_mask(mask_path(data, cards[1]["id"]))
    given = read_mask(folder / "mask" / f"{cards[1]['id']}.png")
    confusions = [confusion_matrix(mask, truth, 4) for mask in (given, 0 * given)]
    iou, empty = (f"IoU {iou_table(confusion).miou_skip:.1f}" for confusion in confusions)
    assert found[:2] + found[3:] == ["", "", iou]

    move = "const one = views.querySelector('input'); one.value = 99; one.focus();"
    browser.run(f"{{ {move} one.dispatchEvent(new Event('input')); }}")
    moved = _shown(browser, cards[1])  # a map's peak of 1 is all that is left
    assert moved[:2] + moved[3:] == ["", "", iou]
    assert 0 <= float(moved[2][4:]) - float(empty[4:]) < 3
    browser.press("ArrowRight")  # is for the slider that has the focus
    assert _shown(browser, cards[1]) == moved
    browser.run("viewer.querySelector('[data-do=reset]').click()")
    assert _shown(browser, cards[1]) == found

    picture = "views.querySelectorAll('canvas')[2].toDataURL()"
    masks = browser.run(picture)
    browser.press("m")
    assert browser.run(picture) != masks
    browser.press("m")
    assert browser.run(picture) == masks
    browser.run("document.activeElement.blur()")
    browser.press("ArrowRight")
    _shown(browser, cards[2])
    browser.press("ArrowLeft")
    _shown(browser, cards[1])
    browser.press("Escape")
    assert browser.run("viewer.open") is False

    # the arrows go to those that the filter shows
    browser.run("select.value = '0'; show()")
    shown = browser.run("[...document.querySelectorAll('figure.card')].map(one => !one.hidden)")
    cats = [card for card, is_shown in zip(cards, shown, strict=True) if is_shown]
    browser.run(f"open({cards.index(cats[0])})")
    _shown(browser, cats[0])
    browser.press("ArrowRight")
    _shown(browser, cats[1])
    browser.open(f"{page[0].as_uri()}#image={cards[3]['id']}")
    _shown(browser, cards[3])
    assert browser.complaints == []


def test_viewer_asked_again_before_it_has_finished(page, browser):
    """The close event comes after the next photograph was asked for; it must not stop that one."""
    browser.open(page[0].as_uri())
    cards = _data(page[1])["cards"]
    browser.run("open(1); undefined")
    found = _shown(browser, cards[1])
    browser.run("viewer.close(); open(0); undefined")
    _shown(browser, cards[0])
    browser.run("open(2); open(1); open(1); undefined")
    assert _shown(browser, cards[1]) == found


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_fits_its_window(page, browser, width, dark):
    browser.open(page[0].as_uri(), (width, 800), dark)
    assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0
    bottom = browser.run("document.querySelector('.first').getBoundingClientRect().bottom")
    if width == 1280:
        assert bottom <= 800  # table, curve and examples without scrolling
    cells = "[...document.querySelectorAll('.heat tbody tr:first-child td')]"
    widths = browser.run(f"{cells}.map(cell => cell.getBoundingClientRect().width)")
    assert len(set(widths)) == 1
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 60) == dark


HOSTILE = "</script><script>document.title = 'broken'</script>"


def test_hostile_names_are_text_in_a_browser(browser, tmp_path):
    # readers refuse such names; a page must not depend on that
    name, other = f"{HOSTILE}\u202e\"'&amp;", "'\"><b id=b>"
    uri, mask = jpeg_uri(np.zeros((8, 8, 3), np.uint8)), mask_uri(np.eye(8, dtype=np.uint8))
    cards = [
        Card(name, 50.0, (0,), (0, 1), uri, uri, Layer(mask, uri), (Layer(mask, uri),)),
        Card(other, float("nan"), (0,), (0,), uri, uri, Layer(mask, uri), (Layer(mask, uri),)),
    ]
    classes = (other, name)
    body = [
        report_page.examples(cards, {"best": 0, "worst": 1}, [other], classes),
        report_page.gallery(cards, [StageView(other, 0.5)], classes),
        bars({name: 1.0}),
        heat_table(np.eye(2), classes),
    ]
    out = tmp_path / "hostile.html"
    made = page_module.page(name, "\n".join(body), viewer.STYLE, viewer.SCRIPT)
    out.write_text(made, encoding="utf-8")
    browser.open(f"{out.as_uri()}#image={quote(name, safe='')}")
    _shown(browser, {"id": name})
    assert browser.complaints == []
    assert browser.run(
        "[document.title, document.scripts.length, !!document.querySelector('#b')]"
    ) == [
        name,
        2,  # the data and ours
        False,
    ]
    chips = browser.run("[...viewer.querySelectorAll('.chip bdi')].map(one => one.textContent)")
    assert chips == [other, name]
    # nothing turns what stands beside it: all text with such marks is isolated
    loose = browser.run(
        """(() => {
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          const found = [];
          while (walker.nextNode())
            if (walker.currentNode.data.includes("\u202e") &&
                !walker.currentNode.parentElement.closest("bdi, script, option"))
              found.push(walker.currentNode.data);
          return found;
        })()"""
    )
    assert loose == []


def test_a_list_without_masks_has_a_page_of_what_can_be_had(run, tmp_path):
    data = shutil.copytree(run[0], tmp_path / "data")
    shutil.rmtree(data / MASK_DIR)
    folder = run[1]
    words = f"--voc12_root {data} --list train --num_workers 0 --out {tmp_path / 'page.html'}"
    flags = ["--refined_dir", str(folder / "cam"), "--session_dir", str(folder)]
    main(parse_args([*words.split(), *flags]))
    text = (tmp_path / "page.html").read_text()
    ids = load_ids(data, "train")
    auto = choose_threshold(data, ids, folder / "cam")
    assert f"{auto:.2f}" in text
    assert "5 of 5 images, in the order of the list, which has no masks." in text
    assert re.findall(r"<figcaption><b></b><bdi>(2007_\d{6})", text) == ids
    assert "Confusion" not in text
    assert "ground truth" not in text.split("<script>")[0].split("dialog")[0]
    assert all(card["truth"] is None for card in _data(text)["cards"])
    assert re.findall(r'class="what">(\w+):', text) == ["first", "middle", "last"]
    assert "Training" in text


def test_some_missing_masks_are_an_error(run, tmp_path):
    data = shutil.copytree(run[0], tmp_path / "data")
    (data / MASK_DIR / f"{load_ids(data, 'train')[0]}.png").unlink()
    words = f"--voc12_root {data} --list train --num_workers 0 --out {tmp_path / 'page.html'}"
    with pytest.raises(InputError, match="1 of 5 masks are not in "):
        main(parse_args([*words.split(), "--refined_dir", str(run[1] / "cam")]))
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((10, 10), 1, r"\.png is of size \(10, 10\), its photograph of \(\d+, \d+\)"),
        (None, 30, r"\.png has class value 30; \d+ classes use values 0 to \d+ and 255"),
    ],
)
def test_without_masks_a_label_map_that_does_not_fit_is_named(run, tmp_path, shape, value, message):
    data = shutil.copytree(run[0], tmp_path / "data")
    shutil.rmtree(data / MASK_DIR)
    for name in load_ids(data, "train"):
        size = shape or read_image(image_path(data, name)).shape[:2]
        write_mask(tmp_path / "made" / f"{name}.png", np.full(size, value), {})
    words = f"--voc12_root {data} --list train --num_workers 0 --out {tmp_path / 'page.html'}"
    with pytest.raises(InputError, match=message):
        main(parse_args([*words.split(), "--mask_dir", str(tmp_path / "made")]))
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("labelmap", [False, True])
def test_masks_of_a_palette_in_another_order_are_read_by_colour(run, tmp_path, labelmap):
    """As by the evaluation: without masks of the list the gallery reads them alone."""
    data = shutil.copytree(run[0], tmp_path / "data")
    shutil.rmtree(data / MASK_DIR)
    order = [0, 3, 1, 2]  # index -> class value
    if labelmap:  # whose colours are VOC's in that order
        names = (data / "classes.txt").read_text().splitlines()
        (data / "classes.txt").unlink()
        colours = voc_palette()[[2, 3, 1, *range(4, len(names) + 1)]].tolist()
        lines = [
            f"{name}:{','.join(map(str, colour))}::"
            for name, colour in zip(names, colours, strict=True)
        ]
        (data / "labelmap.txt").write_text("\n".join(lines))
        order = [0, 1, 2, 3]
    for name in load_ids(data, "train"):
        picture = Image.fromarray(
            np.full(read_image(image_path(data, name)).shape[:2], 1, np.uint8)
        )
        picture.putpalette(voc_palette()[order].astype(np.uint8).tobytes())
        (tmp_path / "made").mkdir(exist_ok=True)
        picture.save(tmp_path / "made" / f"{name}.png")
    words = f"--voc12_root {data} --list train --num_workers 0 --out {tmp_path / 'page.html'}"
    main(parse_args([*words.split(), "--mask_dir", str(tmp_path / "made")]))
    assert re.findall(r'data-classes="(.*?)"', (tmp_path / "page.html").read_text()) == ["2"] * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda cam: {"keys": cam.keys + 30}, r"\.npz has class value 3\d; "),
        (
            lambda cam: {"cam": cam.cam[:, :10, :10], "size": (10, 10)},
            r"\.npz is of size \(10, 10\), its image \(",
        ),
        (
            lambda cam: {"meta": cam.meta | {"classes": ["cat", "owl", "dog"]}},
            r"\.npz was made for other classes than cat, ",
        ),
    ],
)
def test_without_masks_cam_files_that_do_not_fit_are_named(run, tmp_path, changes, message):
    data = shutil.copytree(run[0], tmp_path / "data")
    shutil.rmtree(data / MASK_DIR)
    for name in load_ids(data, "train"):
        cam = load_cam(run[1] / "cam" / f"{name}.npz")
        save_cam(tmp_path / "made", replace(cam, **changes(cam)))
    words = f"--voc12_root {data} --list train --num_workers 0 --out {tmp_path / 'page.html'}"
    with pytest.raises(InputError, match=message):
        main(parse_args([*words.split(), "--refined_dir", str(tmp_path / "made")]))
    assert not (tmp_path / "page.html").exists()


def test_a_walk_without_its_seeds(run, tmp_path):
    """Its threshold is chosen by the masks; without any there is none."""
    for path in (run[1] / "cam").iterdir():
        cam = load_cam(path)
        save_cam(tmp_path / "walk", replace(cam, meta=cam.meta | {"stage": WALK_STAGE}))
    words = f"--list train --num_workers 0 --out {tmp_path / 'page.html'} --walk_dir"
    words = [*words.split(), str(tmp_path / "walk"), "--voc12_root"]
    main(parse_args([*words, str(run[0])]))
    text = (tmp_path / "page.html").read_text()
    assert "Background threshold" in text
    assert 'stroke-dasharray="4 3"' not in text
    assert re.search(r"IoU of classes, IRN's walk @ 0\.\d\d \(best by the masks\)", unescape(text))
    assert _data(text)["stages"][0]["t"] is not None
    data = shutil.copytree(run[0], tmp_path / "data")
    shutil.rmtree(data / MASK_DIR)
    with pytest.raises(InputError, match="--walk_dir on a list without masks, as train is, has no"):
        main(parse_args([*words, str(data)]))


def test_without_masks_the_least_sure_stand_first(pets_root, tmp_path):
    """And how right the classifier is on photographs that did not train it."""
    ids = load_ids(pets_root, "train")
    root = tmp_path / "data"
    shutil.copytree(pets_root / "JPEGImages", root / "JPEGImages")
    shutil.copy(pets_root / "classes.txt", root)
    (root / "all.txt").write_text("\n".join(ids) + "\n")
    for name in ids:
        size = read_image(image_path(root, name)).shape[:2]
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones(size), {})
    sure = {name: place / 10 for place, name in enumerate(reversed(ids))}
    (tmp_path / "sure.json").write_text(json.dumps(sure))
    numbers = {"photographs": 7, "seen": 5, "wrongly seen": 2, "cut_off": 0.375}
    classifier = {"held_out": 11, "classes": {"cat": numbers}}
    (tmp_path / "classifier.json").write_text(json.dumps(classifier))
    flags = ["--voc12_root", root, "--list", root / "all.txt", "--pred_dir", tmp_path / "masks"]
    flags += ["--sureness", tmp_path / "sure.json", "--classifier", tmp_path / "classifier.json"]
    flags = [str(flag) for flag in (*flags, "--out", tmp_path / "page.html", "--num_workers", 0)]
    main(parse_args(flags))
    page = (tmp_path / "page.html").read_text()
    assert [page.index(f'alt="{name}, open large"') for name in reversed(ids)] == sorted(
        page.index(f'alt="{name}, open large"') for name in ids
    )
    assert "the least sure first" in page
    assert "On 11 photographs that did not train it." in page
    for text in ("7", "5", "2", "0.375"):
        assert f"<td>{text}</td>" in page
    # those that the file has not are neither the surest nor in the gallery
    (tmp_path / "sure.json").write_text(json.dumps({ids[1]: 0.9, ids[0]: 0.4, "other": 1}))
    main(parse_args(flags))
    page = (tmp_path / "page.html").read_text()
    shown = [name for name in ids if f'alt="{name}, open large"' in page]
    assert shown == list(ids[:2])
    assert f"2 of {len(ids)} images, the least sure first" in page
    left = len(ids) - 2
    assert f"; {left} more are left out, as --sureness does not say how sure they are." in page
    assert " of 2 images, by how sure the mask is" in page
    (tmp_path / "page.html").unlink()
    for said, message in (
        ("[1]", "is no id -> number 0 to 1, but list;"),
        ('{"other": 0.5}', f"has none of the {len(ids)} images of the list; is it of other"),
        ("{}", f"has none of the {len(ids)} images of the list"),
        (json.dumps({ids[0]: 5}), f"{ids[0]} has 5, no number 0 to 1"),
        (json.dumps({ids[0]: -3}), f"{ids[0]} has -3, no number 0 to 1"),
        (json.dumps({ids[0]: True}), f"{ids[0]} has true, no number 0 to 1"),
        (json.dumps({ids[0]: None}), f"{ids[0]} has null, no number 0 to 1"),
        (json.dumps({ids[0]: "0.5"}), f'{ids[0]} has "0.5", no number 0 to 1'),
        (json.dumps({ids[0]: float("nan")}), f"{ids[0]} has NaN, no number 0 to 1"),
        (json.dumps({ids[0]: 0.5, "other": 2}), "other has 2, no number 0 to 1"),
    ):
        (tmp_path / "sure.json").write_text(said)
        with pytest.raises(InputError, match=rf"--sureness .*{re.escape(message)}"):
            main(parse_args(flags))
    assert not (tmp_path / "page.html").exists()
    (tmp_path / "sure.json").write_text(json.dumps(sure))
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(InputError, match=r"--classifier .* is no file of voc12.class_scores"):
        main(parse_args(flags))
