"""The page to try a model: driven in a browser as its user does, and what its folder must be."""

import base64
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import app
from network.build import build_cpn
from network.seg import build_seg
from network.seg_weights import load_seg
from network.trial import try_photograph
from network.weights import load_network, save_network
from tests.browser import BROWSER, open_tab
from tests.conftest import PETS
from tool.errors import InputError
from tool.file.images import read_image, read_mask, write_image, write_mask
from tool.file.model_folder import read_model_folder
from tool.run import web_server
from voc12.label_file.read import labels_from_file

ROOT = Path(__file__).parents[2]
THRESHOLD = 0.4
NAMES = ("a/one.jpg", "two.png", "three.jpg")


def _networks(folder):
    torch.manual_seed(0)
    cpn = {"backbone": "resnet10t", "num_classes": len(PETS)}
    save_network(
        folder / "classifier.pth", build_cpn(**cpn).eval(), cpn | {"method": "cpn"}, PETS, {}
    )
    config = {"arch": "deeplabv1", "backbone": "resnet10t", "num_classes": 3, "head_channels": 8}
    net = build_seg(**config).eval()
    classifier = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():  # untrained logits hardly differ
        logits = net.forward_low_resolution(torch.randn(1, 3, 64, 64))
        factor = 5 / logits.std(dim=(0, 2, 3))
        classifier.weight *= factor.view(-1, 1, 1, 1)
        classifier.bias.sub_(logits.mean(dim=(0, 2, 3))).mul_(factor)
    save_network(folder / "model.pth", net, config | {"method": "seg"}, PETS, {})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as masks_from_tags.py leaves it, of networks that learnt nothing."""
    root = tmp_path_factory.mktemp("model")
    folder, photographs = root / "out", root / "photographs"
    folder.mkdir()
    _networks(folder)
    rng = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        image = rng.integers(0, 120, (60 + 8 * index, 90, 3), np.uint8)
        image[20:40, 30:60] = (230, 200 - 60 * index, 40)
        write_image(photographs / name, image)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[20:40, 30:60] = index + 1
        write_mask((folder / "masks" / name).with_suffix(".png"), mask)
    road = {
        "version": 1,
        "images": str(photographs),
        "classes": list(PETS),
        "classifier": "classifier.pth",
        "model": "model.pth",
        "refinement": "pcm",
        "scales": [1.0],
        "long_side": 80,
        "threshold": THRESHOLD,
        "min_score": dict.fromkeys(PETS, 0.0),
        "masks": {name: str(Path(name).with_suffix(".png")) for name in NAMES},
        "sureness": {name: 0.9 - 0.3 * index for index, name in enumerate(NAMES)},
    }
    (folder / "road.json").write_text(json.dumps(road))
    return folder


@pytest.fixture(scope="module")
def address(model):
    """The address of the page, served by the script itself."""
    words = [sys.executable, "app.py", "--model", str(model), "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        line = server.stdout.readline()
        found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+) in a browser; Ctrl-C ends it\n", line)
        assert found, line
        yield found[1]
        server.send_signal(signal.SIGINT)
        assert server.wait(300) in (0, 130)
    finally:
        server.kill()
        server.wait()


def _trial(model, name):
    folder = read_model_folder(model)
    image = read_image(folder.photograph(name))
    classifier, model = load_network(folder.classifier)[0], load_seg(folder.model)[0]
    classifier.refinement = "pcm"  # as road.json says
    return try_photograph(image, classifier, model, [1.0], 80, torch.device("cpu"))


def _shares(tab, figure):
    """Mask value -> share of the pixels, as a figure's legend says."""
    script = (
        f"[...document.querySelectorAll('#{figure} [data-value]')]"
        ".map(one => [Number(one.dataset.value), Number(one.dataset.share)])"
    )
    return {int(value): share for value, share in tab.run(script)}


def _counted(mask):
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    return {int(v): round(float(shares[v]), 4) for v in np.flatnonzero(shares) if v}


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome")
def test_in_a_browser(address, model, tmp_path):
    photograph = model.parent / "photographs" / "two.png"
    trial, every = _trial(model, "two.png"), [0, 1, 2]
    with open_tab(tmp_path / "profile") as tab:
        tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        tab.call("Page.navigate", url=address)
        # drop
        tab.wait("!!document.querySelector('#photograph input[type=file]')")
        tab.choose_file("#photograph input[type=file]", photograph)
        tab.wait("!!document.querySelector('#cam_mask img')")
        assert _shares(tab, "cam_mask") == _counted(trial.cam_mask(THRESHOLD, every))
        assert _shares(tab, "model_mask") == _counted(trial.model_mask(every))
        assert tab.run("document.querySelectorAll('#scores .bar').length") == 3
        # move the threshold
        old = tab.run("document.querySelector('#cam_mask img').src")
        tab.run(
            "{const n = document.querySelector('#threshold input[type=number]'); n.value = 0.8;"
            "n.dispatchEvent(new Event('input', {bubbles: true}));"
            "n.dispatchEvent(new Event('change', {bubbles: true})); n.blur()}"
        )
        tab.wait(f"document.querySelector('#cam_mask img').src != {json.dumps(old)}")
        assert "0.80" in tab.run("document.querySelector('#cam_mask b').innerText")
        assert _shares(tab, "cam_mask") == _counted(trial.cam_mask(0.8, every))
        assert _shares(tab, "cam_mask") != _counted(trial.cam_mask(THRESHOLD, every))
        # tick a class off
        tab.run("document.querySelectorAll('#classes input')[0].click()")
        tab.wait("!document.querySelector('#cam_mask [data-value=\"1\"]')")
        assert _shares(tab, "cam_mask") == _counted(trial.cam_mask(0.8, [1, 2]))
        assert _shares(tab, "model_mask") == _counted(trial.model_mask([1, 2]))
        # save the model's mask
        tab.run("document.querySelector('#save').click()")
        _wait_for(tmp_path / "two_mask.png")
        size = read_image(photograph).shape[:2]
        saved = read_mask(tmp_path / "two_mask.png")
        np.testing.assert_array_equal(saved, trial.model_mask([1, 2], size))
        # correct the tags
        tab.run("document.querySelector('#correct').click()")
        tab.wait("document.querySelector('#message').innerText.includes('1 photographs now')")
        with (model / "corrections.csv").open(newline="") as file:
            assert list(csv.reader(file)) == [["image", "labels"], ["two.png", "dog;owl"]]
        # as masks_from_tags.py reads it
        labels = labels_from_file(str(model / "corrections.csv"), ["two"], PETS)
        np.testing.assert_array_equal(labels, [[0, 1, 1]])
        # the worst masks
        tab.run("[...document.querySelectorAll('button[role=tab]')][1].click()")
        tab.wait("document.querySelectorAll('#worst img').length == 3")
        texts = tab.run("document.querySelector('#worst').innerText")
        assert texts.index("three.jpg") < texts.index("two.png") < texts.index("a/one.jpg")
        tab.run("document.querySelectorAll('#worst img')[2].closest('button').click()")
        tab.wait("document.querySelector('#message').innerText.includes('a/one.jpg')")
        # a broken photograph
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(photograph.read_bytes()[:200])
        tab.run("document.querySelector('#photograph button[aria-label]')?.click()")
        tab.wait("!!document.querySelector('#photograph input[type=file]')")
        tab.choose_file("#photograph input[type=file]", broken)
        tab.wait("document.querySelector('#message').innerText.includes('broken.jpg: cannot read')")
        assert tab.complaints == []
        assert [url for url in tab.asked if not url.startswith((address, "data:", "blob:"))] == []


def test_another_photograph_of_a_known_name_corrects_nothing(model, tmp_path):
    """A row one.jpg would be of a/one.jpg."""
    folder = replace(read_model_folder(model), path=tmp_path)
    page = SimpleNamespace(folder=folder)

    def send(name, known):
        return app.Page.send(page, app.Shown("x", name, None, None, known), [1])

    assert "not written: one.jpg is another photograph than a/one.jpg of" in send("one.jpg", False)
    assert not (tmp_path / app.CORRECTIONS).exists()
    assert "It is none of the run&#x27;s photographs" in send("new.jpg", False)
    assert "2 photographs now; a/one.jpg: dog." in send("a/one.jpg", True)


def _wait_for(path, seconds=300):
    end = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < end, f"{path} is not there"
        time.sleep(0.05)


def _status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_else_is_served(address, model):
    assert _status(address) == 200
    assert _status(address, Host="elsewhere.example") == 400
    for path in (model / "road.json", Path("/etc/passwd"), ROOT / "app.py"):
        for start in ("/gradio_api/file=", "/file=", "/gradio_api/file%3D", "/../..", "/static/.."):
            assert _status(f"{address}{start}{path}") in (400, 403, 404), (start, path)


def test_what_is_no_model_folder_is_one_line(model, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"has no road\.json; give the folder that masks_from"):
        app.main(app.parse_args(["--model", str(tmp_path)]))
    monkeypatch.setattr(web_server, "OFFLINE", {})  # not for the tests that follow
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"needs gradio .*; run pip install -r requirements-app"):
        app.main(app.parse_args(["--model", str(model)]))


@pytest.mark.parametrize(
    ("host", "stays"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_the_page_says_where_photographs_go(model, host, stays):
    page = SimpleNamespace(folder=read_model_folder(model), host=host)
    words = app.Page.introduction(page)
    assert ("Nothing that you drop here leaves this machine" in words) == stays
    assert ("is sent to the machine that serves this page" in words) == (not stays)


def test_a_mask_of_another_size_than_its_photograph_is_grey(model, tmp_path):
    folder = replace(read_model_folder(model), path=tmp_path)
    for name in NAMES:
        mask = np.ones(read_image(folder.photograph(name)).shape[:2], np.uint8)
        mask = mask.T if name == "two.png" else mask
        write_mask((tmp_path / "masks" / name).with_suffix(".png"), mask)
    shown = {
        words.split(": ")[-2 if "is of size" in words else -1]: (picture, words)
        for picture, words in app.worst_masks(folder, 0)
    }
    picture, words = shown["two.png"]
    assert (picture == 128).all()
    assert words == (
        f"two.png: {folder.photograph('two.png')} is of size (68, 90), its mask (90, 68) (height, "
        "width); was it changed since masks_from_tags.py?"
    )
    for name in ("a/one.jpg", "three.jpg"):
        assert "% sure" in shown[name][1]


def test_a_visitor_is_kept_without_the_photograph(model, tmp_path):
    """Only its size, and what is shown of it; a saved mask is of its own size."""
    write_image(tmp_path / "large.png", np.full((700, 1400, 3), 90, np.uint8))
    networks = app.load_networks(read_model_folder(model), torch.device("cpu"))
    shown = app.shown_photograph(networks, tmp_path / "large.png", None)
    kept = [*vars(shown).values(), *vars(shown.trial).values()]
    assert max(one.nbytes for one in kept if isinstance(one, np.ndarray)) < 700 * 1400 * 3
    assert shown.trial.photograph == (700, 1400)
    uri = app.mask_uri(networks, shown, [0, 1, 2], None)
    (tmp_path / "mask.png").write_bytes(base64.b64decode(uri.split(",")[1]))
    assert read_mask(tmp_path / "mask.png").shape == (700, 1400)


def test_networks_of_other_classes_are_refused(model):
    folder = read_model_folder(model)
    other = type(folder)(**{**vars(folder), "classes": ("cat", "dog", "cow")})
    with pytest.raises(InputError, match=r"classifier\.pth knows cat, dog, owl .*cat, dog, cow"):
        app.load_networks(other, torch.device("cpu"))
