"""What several test modules share: tiny data sets, and the released ResNet38 CPN with the weights
that a formula gives.
"""

import pytest
import torch

from network.build import build_cpn
from tests.reference import formula_state_dict
from tests.synthetic import write_voc_tree
from tool.file.checkpoint import save_torch
from tool.run.notes import forget_notes

PETS = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def _no_note_said_yet():
    """A test is a run: what an earlier one noted is noted again."""
    forget_notes()


@pytest.fixture
def threads():
    """Sets torch's number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def voc_root(tmp_path_factory):
    """VOC's 20 classes; lists train (4 images) and val (2). To be read only."""
    return write_voc_tree(tmp_path_factory.mktemp("voc"), {"train": 4, "val": 2}, class_count=20)


@pytest.fixture(scope="session")
def pets_root(tmp_path_factory):
    """Three classes of one's own; lists train (5 images, an odd number) and val (2). To be read
    only.
    """
    return write_voc_tree(
        tmp_path_factory.mktemp("pets"), {"train": 5, "val": 2}, class_count=3, classes=PETS
    )


@pytest.fixture(scope="session")
def formula_state():
    """The released network's state dict with the formula's values. To be read only."""
    return formula_state_dict()


@pytest.fixture(scope="session")
def released_net(formula_state):
    """ResNet38 CPN with the formula's weights, in eval mode. Not to be changed; copy it to
    train.
    """
    net = build_cpn()
    net.load_state_dict(formula_state)
    return net.eval()


@pytest.fixture(scope="session")
def released_weights(formula_state, tmp_path_factory):
    """A file like the authors' CPN.pth: the plain state dict of a DataParallel network."""
    path = tmp_path_factory.mktemp("weights") / "CPN.pth"
    save_torch(path, {f"module.{name}": value for name, value in formula_state.items()})
    yield path
    path.unlink()  # 422 MB


@pytest.fixture(scope="session")
def small_net():
    """A CPN network of 3 classes that computes in milliseconds, in eval mode. Not to be changed;
    copy it to train.
    """
    torch.manual_seed(0)
    return build_cpn("resnet10t", num_classes=len(PETS)).eval()
