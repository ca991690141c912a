"""Shares of a list and of a batch, from the environment that torchrun sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infer_aff
import infer_cam
import infer_irn
import make_crf
from network.aff import build_affinity_net
from network.expansion_weights import build_irn
from network.weights import save_network
from tests.conftest import PETS
from tests.seeds import write_seeds
from tool.errors import InputError
from tool.run.shards import batch_share, is_main, rank, shard, share_note, world_size
from voc12.lists import load_ids


@pytest.fixture
def ranks(monkeypatch):
    """ranks(r, n): this process is rank r of n."""

    def become(number, size) -> None:
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("WORLD_SIZE", str(size))

    return become


@pytest.mark.parametrize("size", ["", "0", "1"])
def test_one_process_does_everything(monkeypatch, size):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    assert shard("abc") == ["a", "b", "c"]
    assert batch_share(5) == 5
    assert share_note(3) == "3 images"


@given(length=st.integers(0, 40), size=st.integers(1, 9))
def test_nothing_is_done_twice_or_left_out(length, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(size))
        shares = []
        for number in range(size):
            patch.setenv("RANK", str(number))
            shares.append(shard(range(length)))
        assert sorted(item for share in shares for item in share) == list(range(length))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_says_so(ranks):
    ranks(1, 3)
    assert share_note(10) == "3 of 10 images (share 2 of 3)"
    assert not is_main()


def test_scripts_share_a_list_that_does_not_divide(ranks, pets_root, small_net, tmp_path, capsys):
    """Five images, two ranks: every script makes each file once, and says which share it was."""
    torch.manual_seed(0)
    seeds = write_seeds(pets_root, tmp_path / "seeds")
    config = {
        "backbone": "resnet10t",
        "num_classes": 3,
        "output_stride": None,
        "refinement": "pcm+prcm",
        "prcm": "released",
    }
    save_network(tmp_path / "cpn.pth", small_net, config | {"method": "cpn"}, PETS, {})
    irn, aff = build_irn("resnet10t", "none"), build_affinity_net("resnet10t")
    save_network(
        tmp_path / "irn.pth",
        irn,
        {"method": "irn", "backbone": "resnet10t", "crop_size": 96},
        PETS,
        {},
    )
    save_network(
        tmp_path / "aff.pth",
        aff,
        {"method": "aff", "backbone": "resnet10t", "preset": "seam"},
        PETS,
        {},
    )
    scripts = {
        infer_cam: (
            "--out_cam",
            "--weights",
            tmp_path / "cpn.pth",
            "--scales",
            0.5,
            "--device",
            "cpu",
        ),
        infer_irn: (
            "--out_mask",
            "--weights",
            tmp_path / "irn.pth",
            "--cam_dir",
            seeds,
            "--bg_threshold",
            0.25,
            "--device",
            "cpu",
        ),
        infer_aff: (
            "--out_mask",
            "--weights",
            tmp_path / "aff.pth",
            "--cam_dir",
            seeds,
            "--device",
            "cpu",
        ),
        make_crf: ("--out_cam", "--cam_dir", seeds, "--crf_set", "iterations=1"),
    }
    ids = load_ids(pets_root, "train")
    for script, (output, *flags) in scripts.items():
        out = tmp_path / script.__name__
        flags = [
            "--voc12_root",
            pets_root,
            "--infer_list",
            "train",
            "--num_workers",
            0,
            output,
            out,
            *flags,
        ]
        made = []
        for number, note in (
            (0, "3 of 5 images (share 1 of 2)"),
            (1, "2 of 5 images (share 2 of 2)"),
        ):
            ranks(number, 2)
            before = {path: path.stat().st_mtime_ns for path in out.glob("*")}
            script.main(script.parse_args([str(flag) for flag in flags]))
            assert f"{out}, {note}" in capsys.readouterr().out
            made += [
                path.stem for path in out.glob("*") if before.get(path) != path.stat().st_mtime_ns
            ]
        assert sorted(made) == sorted(ids), script


def test_batch_that_does_not_divide_is_named(ranks):
    ranks(0, 3)
    assert batch_share(6) == 2
    with pytest.raises(InputError) as error:
        batch_share(4)
    assert (
        str(error.value)
        == "--batch_size 4 is the total over 3 processes and must divide by their number; change it"
    )


def test_rank_that_would_do_the_share_of_another_is_named(ranks):
    ranks(4, 4)
    with pytest.raises(InputError) as error:
        shard(range(8))
    assert str(error.value) == "RANK 4 is not in 0..3, for WORLD_SIZE is 4; count ranks from 0"


@pytest.mark.parametrize("text", ["-1", "one", "1.5", "²"])
def test_environment_without_a_number_is_named(ranks, text):
    ranks(text, 2)
    with pytest.raises(InputError) as error:
        rank()
    assert str(error.value) == (
        f"the environment has RANK={text}, no number from 0 up; start the script by torchrun, or "
        "unset it"
    )
