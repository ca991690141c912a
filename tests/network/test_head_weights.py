"""Heads of trained networks: each class gets its row by name, and a line says what was done."""

import re

import pytest
import torch

import train_cpn
from network.build import build_cpn
from network.head_weights import match_head
from network.weights import load_backbone_weights, save_network
from tool.file.checkpoint import save_torch

CLASSES = ("cat", "dog", "owl")
CONFIG = {"method": "cam", "num_classes": 3, "backbone": "resnet10t"}


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(1)
    return build_cpn("resnet10t", num_classes=3)


def _started(path, classes=CLASSES):
    """(what is said, weight before, weight after) of a network that starts from a file."""
    torch.manual_seed(2)
    net = build_cpn("resnet10t", num_classes=3)
    fresh = net.fc8.weight.detach().clone()
    load_backbone_weights(net, path)
    return match_head(net, fresh, path, classes), fresh, net.fc8.weight


@pytest.mark.parametrize(
    ("named", "rows", "said"),
    [
        (("cat", "dog", "owl"), (0, 1, 2, 3), ""),
        (("owl", "cat", "dog"), (0, 2, 3, 1), "have these classes in another order: their rows go"),
        (("dog", "cow", "cat"), (0, 3, 1, None), "are of other classes; afresh start owl"),
        (("a", "b", "c"), (None,) * 4, "are of other classes; afresh start cat, dog, owl"),
    ],
)
def test_rows_go_by_name(trained, tmp_path, named, rows, said):
    save_network(tmp_path / "cam.pth", trained, CONFIG, named, {})
    found, fresh, weight = _started(tmp_path / "cam.pth")
    assert said in found
    assert bool(found) == bool(said)
    for place, row in enumerate(rows):
        expected = fresh[place] if row is None else trained.fc8.weight[row]
        assert torch.equal(weight[place], expected), place


def test_a_file_without_names_is_taken_as_it_is_and_said(trained, tmp_path):
    save_torch(tmp_path / "plain.pth", trained.state_dict())
    said, _, weight = _started(tmp_path / "plain.pth")
    assert torch.equal(weight, trained.fc8.weight)
    assert said.endswith(
        "do not name their classes: the classifier is taken as that of cat, dog, owl, in this order"
    )
    headless = {name: one for name, one in trained.state_dict().items() if "fc8" not in name}
    save_torch(tmp_path / "backbone.pth", headless)
    said, fresh, weight = _started(tmp_path / "backbone.pth")
    assert (said, torch.equal(weight, fresh)) == ("", True)


def test_a_training_starts_from_the_rows_of_its_classes(trained, tmp_path, capsys):
    path = tmp_path / "cam.pth"
    save_network(path, trained, CONFIG, CLASSES[::-1], {})
    args = train_cpn.parse_args(["--backbone", "resnet10t", "--weights", str(path)])
    net, _ = train_cpn.build_network(args, CLASSES)
    assert torch.equal(net.fc8.weight, trained.fc8.weight[[0, 3, 2, 1]])
    said = re.escape(f"weights {path} have these classes in another order: their rows go by name")
    assert re.search(said, capsys.readouterr().out)
