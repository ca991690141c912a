"""Segmentation networks: sizes, what trains, parity of the pieces, and their weights in files."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from network import build_cpn
from network.seg import DeepLabV1Head, build_seg, merged_logits, pyramid_rates, weigh_classes
from network.seg_weights import load_seg, load_seg_backbone, load_tag_head
from network.weights import save_network
from tests.conftest import PETS
from tool.errors import InputError
from tool.file.checkpoint import load_torch, save_torch
from tool.losses import segmentation_loss
from tool.schedule import poly_optimizer
from train_seg import network_groups, train_step

SMALL = ("deeplabv1", "deeplabv3", "deeplabv3plus")


@pytest.fixture(scope="module")
def nets():
    """arch -> a network of 3 classes on a small ResNet, in eval mode. Not to be changed; copy it to
    train.
    """
    torch.manual_seed(0)
    return {arch: build_seg(arch, "resnet10t", 3, head_channels=16).eval() for arch in SMALL}


@pytest.mark.parametrize("arch", SMALL)
def test_logits_have_the_size_of_the_image(nets, arch):
    with torch.no_grad():
        assert nets[arch](torch.randn(2, 3, 50, 70)).shape == (2, 4, 50, 70)
        low = nets[arch].forward_low_resolution(torch.randn(1, 3, 64, 96))
    assert low.shape == ((1, 4, 16, 24) if arch == "deeplabv3plus" else (1, 4, 4, 6))


def test_dilation_keeps_the_field_of_view_in_pixels():
    assert [pyramid_rates(stride) for stride in (8, 16, 32)] == [
        [12, 24, 36],
        [6, 12, 18],
        [3, 6, 9],
    ]
    rates = [DeepLabV1Head(8, 4, stride)[0][0].dilation for stride in (8, 16)]
    assert rates == [(12, 12), (6, 6)]


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_strides(arch, stride):
    net = build_seg(arch, "resnet10t", 3, output_stride=stride, head_channels=8).eval()
    with torch.no_grad():
        maps = net.backbone.forward_features(torch.randn(1, 3, 64, 64))
    assert maps["conv6"].shape[2:] == (64 // stride, 64 // stride)
    assert maps["low"].shape[2:] == (16, 16)


@pytest.mark.parametrize("arch", SMALL)
def test_two_steps_move_head_and_backbone_but_no_frozen_norm(nets, arch):
    net = copy.deepcopy(nets[arch]).train()
    before = copy.deepcopy(net.state_dict())
    optimizer, schedule = poly_optimizer(network_groups(net, 1e-2, 5e-4), 0.9, 2)
    image, label = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64), dtype=torch.uint8)
    for _ in range(2):
        optimizer.zero_grad()
        segmentation_loss(net.forward_low_resolution(image), label).backward()
        optimizer.step()
        schedule.step()
    norms = {
        name for name, module in net.backbone.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    frozen = {f"backbone.{name}" for name in norms}
    stem = {"backbone.model.conv1"}
    for name, value in net.state_dict().items():
        still = any(name.startswith(f"{prefix}.") for prefix in frozen | stem)
        assert torch.equal(value, before[name]) == still, name


@pytest.mark.parametrize("arch", SMALL)
def test_each_trainable_parameter_is_in_one_group(nets, arch):
    groups = network_groups(nets[arch], lr=1e-3, weight_decay=5e-4)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in nets[arch].parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 2e-3, 1e-2, 2e-2, 1e-2])
    assert [group["weight_decay"] for group in groups] == [5e-4, 0, 5e-4, 0, 0]


def test_paper_network_on_resnet38():
    """DeepLabv1 on ResNet38: stride 8, 512 channels, dilation 12, and a training step."""
    net = build_seg("deeplabv1", "resnet38", 20).train()
    shapes = [
        tuple(module.weight.shape) for module in net.head.modules() if isinstance(module, nn.Conv2d)
    ]
    assert shapes == [(512, 4096, 3, 3), (512, 512, 1, 1), (21, 512, 1, 1)]
    logits = net.forward_low_resolution(torch.randn(2, 3, 24, 32))
    assert logits.shape == (2, 21, 3, 4)
    segmentation_loss(logits, torch.randint(0, 21, (2, 24, 32), dtype=torch.uint8)).backward()
    assert net.backbone.b7.conv_branch1.weight.grad.abs().sum() > 0
    assert net.backbone.b2.conv_branch2a.weight.grad is None
    assert net.backbone.bn7.training is False
    assert net.head[0][1].training is True


def test_packaged_backbone_has_nothing_that_no_gradient_reaches():
    """EfficientNet-Lite0 is cut after its last stage: its 1280-channel layer is gone, every
    parameter left is used.
    """
    net = build_seg("deeplabv3plus", "efficientnet_lite0", 3, head_channels=8).train()
    assert net.backbone.out_channels == 320
    net(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [
        name
        for name, parameter in net.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ] == []


def test_merged_logits_are_the_mean_over_scales_and_mirror_images(nets):
    net, size = nets["deeplabv3"], (40, 52)
    image = torch.randn(3, 40, 52)
    scaled = [image, F.interpolate(image[None], (60, 78), mode="bilinear")[0]]
    with torch.no_grad():
        passes = []
        for view in scaled:
            for flip in (False, True):
                logits = net.forward_low_resolution((view.flip(-1) if flip else view)[None])
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
                passes.append(logits.flip(-1) if flip else logits)
        torch.testing.assert_close(
            merged_logits(net, scaled, size), torch.stack(passes).mean(dim=0)
        )
        mirrored = merged_logits(net, [view.flip(-1) for view in scaled], size)
        torch.testing.assert_close(
            mirrored.flip(-1), merged_logits(net, scaled, size), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(merged_logits(net, scaled[:1], size, flip=False), passes[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("deeplabv3plus", "resnet38"),
            "--arch deeplabv3plus reads an early map at stride 4 that resnet38 has not",
        ),
        (("deeplabv1", "nothing"), "--backbone nothing: "),
        (
            ("deeplabv3plus", "vit_tiny_patch16_224"),
            "reads an early map at stride 4 that vit_tiny_patch16_224 has not",
        ),
    ],
)
def test_impossible_networks_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        build_seg(*arguments, 3)


def test_resnet38_has_one_stride():
    with pytest.raises(InputError, match="--backbone resnet38 has output stride 8, not 16"):
        build_seg("deeplabv1", "resnet38", 3, output_stride=16)


@pytest.mark.parametrize("arch", SMALL)
def test_file_says_which_network_it_is(nets, arch, tmp_path):
    config = {
        "method": "seg",
        "arch": arch,
        "backbone": "resnet10t",
        "num_classes": 3,
        "output_stride": None,
        "head_channels": 16,
    }
    save_network(tmp_path / "seg.pth", nets[arch], config, PETS, {})
    net, found, classes = load_seg(tmp_path / "seg.pth")
    assert (found, classes, net.training) == (config, PETS, False)
    image = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(net(image), nets[arch](image))


def test_files_of_other_networks_are_refused(nets, tmp_path):
    save_network(
        tmp_path / "irn.pth",
        nets["deeplabv1"],
        {"method": "irn", "backbone": "resnet10t"},
        PETS,
        {},
    )
    with pytest.raises(
        InputError, match=r"irn\.pth are of no segmentation network; give weights of train_seg\.py"
    ):
        load_seg(tmp_path / "irn.pth")


def test_backbone_takes_a_file_of_imagenet_weights(nets, tmp_path):
    """A file in torchvision's layout, classifier included, as resnet50's; here of the small
    ResNet.
    """
    net = copy.deepcopy(nets["deeplabv1"])
    state = {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in net.backbone.model.state_dict().items()
    }
    save_torch(
        tmp_path / "resnet.pth",
        state | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)},
    )
    load_seg_backbone(net, tmp_path / "resnet.pth")
    for name, value in net.backbone.model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_backbone_goes_on_from_a_cam_network(nets, tmp_path):
    """Weights of train_cpn.py: the backbone is taken over, head and correlation modules are not."""
    cpn = build_cpn("resnet10t", num_classes=2)
    config = {"method": "cpn", "num_classes": 2, "backbone": "resnet10t"}
    save_network(tmp_path / "cpn.pth", cpn, config, ("cat", "dog"), {})
    net = copy.deepcopy(nets["deeplabv1"])
    load_seg_backbone(net, tmp_path / "cpn.pth")
    theirs = cpn.state_dict()
    own = net.backbone.model.state_dict()
    assert len(own) > 50
    for name, value in own.items():
        assert torch.equal(value, theirs[f"model.{name}"]), name


# ============ tag head ============
def test_classes_are_weighed_by_their_share_of_the_best_score():
    logits, tags = torch.randn(2, 4, 3, 5), torch.tensor([[0.0, 2.0, -3.0], [-9.0, -9.0, -9.0]])
    scores = tags.sigmoid()
    weights = (scores / scores.amax(dim=1, keepdim=True))[:, :, None, None]
    expected = logits.softmax(dim=1)
    expected[:, 1:] *= weights
    expected /= expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(weigh_classes(logits, tags).softmax(dim=1), expected)
    torch.testing.assert_close(expected[1], logits[1].softmax(dim=0))  # all seen equally badly


@pytest.mark.parametrize(
    ("arch", "backbone"),
    [
        ("deeplabv3plus", "efficientnet_lite0"),
        ("deeplabv1", "resnet10t"),
        ("deeplabv1", "vit_tiny_patch16_224"),
    ],
)
def test_tag_head_reads_the_map_that_the_cam_network_reads(arch, backbone):
    cam = build_cpn(backbone, 3)
    net = build_seg(arch, backbone, 3, head_channels=8, tag_head=True).train()
    assert net.tag_head.fc8.in_channels == cam.fc8.in_channels
    image, label = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64), dtype=torch.uint8)
    losses = train_step(net, {"image": image, "label": label})
    losses["loss"].backward()
    assert losses["loss"] == losses["seg"] + losses["tags"]
    named = dict(net.named_parameters())
    assert [name for name, one in named.items() if one.requires_grad and one.grad is None] == []
    grouped = [id(one) for group in network_groups(net, 1e-3, 0) for one in group["params"]]
    assert sorted(grouped) == sorted(id(one) for one in named.values() if one.requires_grad)
    net.eval()
    with torch.no_grad():
        logits, tags = net.forward_heads(image)
        torch.testing.assert_close(net.forward_low_resolution(image), weigh_classes(logits, tags))
        cam.load_state_dict(
            {f"model.{name}": value for name, value in net.backbone.model.state_dict().items()},
            strict=False,
        )
        cam.eval().fc8.weight[1:] = net.tag_head.fc8.weight
        raw = cam.forward_low_resolution(image)[0]
    torch.testing.assert_close(tags, raw[:, 1:].mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_tag_head_starts_as_the_cam_networks_of_the_same_classes(tmp_path):
    cpn = build_cpn("resnet10t", num_classes=2)
    config = {"method": "cam", "num_classes": 2, "backbone": "resnet10t"}
    save_network(tmp_path / "cam.pth", cpn, config, ("cat", "dog"), {})
    head = build_seg("deeplabv1", "resnet10t", 2, head_channels=8, tag_head=True).tag_head
    before = head.fc8.weight.clone()
    assert not load_tag_head(head, tmp_path / "cam.pth", ("dog", "cat"))
    assert torch.equal(head.fc8.weight, before)
    assert load_tag_head(head, tmp_path / "cam.pth", ("cat", "dog"))
    assert torch.equal(head.fc8.weight, cpn.fc8.weight[1:])
    value = load_torch(tmp_path / "cam.pth")
    ema = {"module.fc8.weight": 2 * cpn.fc8.weight}
    save_torch(tmp_path / "two.pth", value | {"ema": ema})
    for key, factor in (("ema", 2), ("state_dict", 1)):  # that of the backbone beside it
        assert load_tag_head(head, tmp_path / "two.pth", ("cat", "dog"), key)
        assert torch.equal(head.fc8.weight, factor * cpn.fc8.weight[1:])
    whole = value["state_dict"] | {"fc8.weight": cpn.fc8.weight.to(torch.int8)}
    save_torch(tmp_path / "int8.pth", value | {"state_dict": whole})
    with pytest.raises(InputError, match=r"int8\.pth: fc8\.weight is of type int8, the network"):
        load_tag_head(head, tmp_path / "int8.pth", ("cat", "dog"))
    save_torch(tmp_path / "plain.pth", {"fc8.weight": cpn.fc8.weight})
    assert not load_tag_head(head, tmp_path / "plain.pth", ("cat", "dog"))
