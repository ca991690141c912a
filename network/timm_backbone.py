"""Any timm model with intermediate features as a backbone: convolutional ones, pyramids and plain
vision transformers. Batch norm is frozen as in ResNet38 and folded into its convolution; other
norms train.
"""

from collections.abc import Iterator

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.fold import fold_frozen_norms
from network.packaged import PACKAGED, load_packaged_weights
from network.resnet38 import freeze_batch_norm
from network.timm_bands import compute_in_bands
from tool.errors import InputError

# The size of activations after batch norm and ReLU, to which the maps that PRCM reads are scaled.
EARLY_RMS = 0.5
DILATED_STRIDES = (8, 16, 32)  # of models that dilate
DEFAULT_STRIDE = 16  # of models that dilate; the others have one stride
PROBE = 224  # side of the image on which a new backbone's maps are measured, pixels
STEMS = ("conv_stem", "conv1", "stem")  # timm's names of the layers up to stride 2 (or 4)


def unit_scale(feature: Tensor) -> Tensor:
    """feature (B, C, h, w) divided by its root mean square over each image, times EARLY_RMS.

    ResNet38's early maps come out of batch norm and ReLU. Those of a timm model may not:
    EfficientNet-Lite0's have a root mean square of 6 to 8, which saturates PRCM's softmax to one
    pixel and trains f8_3, f8_4 and f9 dozens of times too fast.
    """
    rms = feature.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return feature * (EARLY_RMS / (rms + 1e-5))


# ============ creating timm's model ============
def create_timm(name: str, output_stride: int | None, pretrained: bool) -> tuple[nn.Module, bool]:
    """(timm's model without classifier, whether it dilates).

    name:          a timm model name, or a name in PACKAGED
    output_stride: for models that dilate; None is DEFAULT_STRIDE. Other models have the stride they
                   have.
    Raises InputError for an unknown model and for a download that fails.
    """
    packaged = PACKAGED.get(name)
    options = {
        "model_name": packaged.timm_name if packaged else name,
        "pretrained": pretrained and packaged is None,
        "num_classes": 0,
    }
    try:
        try:
            return timm.create_model(**options, output_stride=output_stride or DEFAULT_STRIDE), True
        except (TypeError, AssertionError, NotImplementedError) as error:
            if isinstance(error, TypeError) and "output_stride" not in str(error):
                raise
        try:  # transformers with positions: any size of image
            return timm.create_model(**options, dynamic_img_size=True), False
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
        return timm.create_model(**options), False
    except OSError as error:
        raise InputError(
            f"cannot download ImageNet weights of --backbone {name}: {error}; set --weights none, "
            "give a file by --weights FILE, or set --backbone efficientnet_lite0, which brings its "
            "own"
        ) from error
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"--backbone {name}: {error}; choose resnet38, efficientnet_lite0 or another model of "
            "timm.list_models()"
        ) from error


def possible_strides(name: str) -> list[int]:
    """The output strides that --backbone name can have."""
    model, dilates = create_timm(name, DILATED_STRIDES[-1], pretrained=False)
    if not dilates:
        return [model.feature_info[-1]["reduction"]]
    strides = []
    for stride in DILATED_STRIDES:
        model, dilates = create_timm(name, stride, pretrained=False)
        if dilates and model.feature_info[-1]["reduction"] == stride:
            strides.append(stride)
    return strides


class TimmBackbone(nn.Module):
    """A timm model: normalised RGB (B, 3, H, W) -> its last feature map and two earlier ones.

    Three kinds of models:
    - Convolutional networks that dilate (ResNet, RegNet, ConvNeXt, EfficientNet, MobileViT): output
      stride 8, 16 or 32.
    - Pyramids that do not dilate (Swin, PVT, MaxViT, MobileNetV4, HGNet): the stride they have,
      mostly 32.
    - Both have maps of ceil(H / stride) rows. A model that wants whole windows, drops the pixels
      left over by its stride (ConvNeXt, Twins), or takes no side under its stride (PVT), gets the
      image padded with 0 at the right and bottom, and the maps are cut again.
    - Plain transformers (ViT, DeiT, DINOv2 and v3, CLIP's): the grid of patches is the map, its
      stride the patch, 14 or 16. The image is resized bilinearly to the nearest whole number of
      patches, at most half a patch away, so that the grid covers the image exactly; timm resizes
      the positions to the grid. Class and register tokens are left out of all maps. conv6 is the
      last block's tokens after the final norm; conv4 and conv5 come from half and three quarters
      of the depth.

    PRCM's keys start at a fortieth of the released size (key_gain): on the small maps of a timm
    model at stride 16 the released start puts nearly all of PRCM's softmax on one pixel, and the
    refined CAM of EfficientNet-Lite0 lost 5 points by it.

    name:          a timm model name, or a name in PACKAGED
    output_stride: as create_timm has it
    pretrained:    load ImageNet weights (from the package, or by timm from its hub)
    early:         which intermediate features (timm's indices) PRCM reads; negative numbers count
                   from the deepest; None is (-3, -2), and for plain transformers as said above
    Raises InputError for a model that timm does not know, that gives no maps, that takes images of
    one size alone, or that has not that stride.
    """

    key_gain = 0.1

    def __init__(
        self,
        name: str,
        output_stride: int | None = None,
        pretrained: bool = False,
        early: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.model, _ = create_timm(name, output_stride, pretrained)
        if not hasattr(self.model, "forward_intermediates") or not self.model.feature_info:
            raise InputError(
                f"--backbone {name}: this timm model gives no intermediate features; choose another"
            )
        if (packaged := PACKAGED.get(name)) and pretrained:
            state = load_packaged_weights(name)
            self.model.load_state_dict(
                {key: value for key, value in state.items() if not key.startswith("classifier.")}
            )
        self.mean = packaged.mean if packaged else tuple(self.model.pretrained_cfg["mean"])
        self.std = packaged.std if packaged else tuple(self.model.pretrained_cfg["std"])

        strides = [level["reduction"] for level in self.model.feature_info]
        depth = len(strides)
        self.plain = depth > 2 and len(set(strides)) == 1
        self.patch = strides[-1] if self.plain else 1  # sides are resized to a multiple of it
        self.unit = 1  # sides are padded to a multiple of it
        self.least = 1  # and to this at least
        if early is None:
            early = (depth // 2 - 1, 3 * depth // 4 - 1) if self.plain else (-3, -2)
        self.early = [index % depth for index in early]
        self._freeze_stem()
        freeze_batch_norm(self)
        self.eval()
        self._choose_unit()
        self._freeze_unused()
        fold_frozen_norms(self.model, self._all_maps)
        compute_in_bands(self.model)
        with torch.no_grad():
            features = TimmBackbone.forward_features(self, torch.zeros(1, 3, PROBE, PROBE))
        self.train()
        self.early_channels = (features["conv4"].shape[1], features["conv5"].shape[1])
        self.out_channels = features["conv6"].shape[1]
        self.stride = PROBE // features["conv6"].shape[-1]
        if output_stride not in (None, self.stride):
            raise InputError(
                f"--backbone {name} has output stride {self.stride}, not {output_stride}; set "
                f"--output_stride {' or '.join(map(str, possible_strides(name)))}"
            )

    # ============ building ============
    def _choose_unit(self) -> None:
        """Find the smallest unit of sides that the model takes: any, its stride, or as many windows
        as fill its own input size; and the least side, a pixel or a stride.
        """
        own = self.model.pretrained_cfg["input_size"][-1]
        stride = self.model.feature_info[-1]["reduction"]
        if self.plain:
            sizes = [(1, (3 * self.patch, 2 * self.patch))]
        else:
            # odd numbers of cells and of pixels, then whole cells, then whole windows
            sizes = [
                (1, (5 * stride + 1, 3 * stride - 1)),
                (stride, (5 * stride, 3 * stride)),
                (own, (own, 2 * own)),
            ]
        for self.unit, size in sizes:
            if (reason := self._reason_against(size)) is None:
                break
        else:
            raise InputError(
                f"--backbone {self.name}: this timm model takes no image but {own} x {own} "
                f"({reason}); choose another"
            )
        narrow = 10 * stride
        if not self.plain and (self._reason_against((1, 1)) or self._reason_against((1, narrow))):
            self.least = stride

    def _reason_against(self, size: tuple[int, int]) -> str | None:
        """Why the model does not take images of these sides, None where it does: what it raises, or
        that its map does not cover them.
        """
        try:
            with torch.no_grad():
                last = self.forward_maps(torch.zeros(1, 3, *size))[-1]
        # whatever a model raises for sides that it does not take
        except (RuntimeError, AssertionError, ValueError, IndexError, AttributeError) as error:
            return str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        stride = self.model.feature_info[-1]["reduction"]
        covering = tuple(-(-side // stride) for side in size)
        if not self.plain and last.shape[2:] != covering:
            return f"its map of {size} pixels has {tuple(last.shape[2:])} cells"
        return None

    def _freeze_unused(self) -> None:
        """Take out of training what no gradient reaches, such as layers between the last map and
        the classifier.
        """
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        with torch.enable_grad():
            last = self.forward_maps(torch.zeros(1, 3, 2 * self.side, self.side))[-1]
            gradients = torch.autograd.grad(last.sum(), trainable, allow_unused=True)
        for parameter, gradient in zip(trainable, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)

    @property
    def side(self) -> int:
        """A small side that the model takes as it is, pixels."""
        return max(self.unit, 2 * self.patch if self.plain else 64)

    def _all_maps(self) -> list[Tensor]:
        """All that the model gives for a small image."""
        last, maps = self.model.forward_intermediates(torch.zeros(1, 3, self.side, self.side))
        return [last, *maps]

    def _freeze_stem(self) -> None:
        """Freeze the layers up to stride 2, as conv1a and b2 are in ResNet38; a plain transformer
        has none.
        """
        for name in STEMS:
            if isinstance(stem := getattr(self.model, name, None), nn.Module):
                stem.requires_grad_(False)

    def freeze_blocks(self, count: int) -> None:
        """Take the first `count` blocks of a plain transformer, or stages of another model, out of
        training, with all that comes before them (patches and positions, stem).

        Raises InputError for more than there are.
        """
        levels = [level["module"] for level in self.model.feature_info]
        if count > len(levels):
            raise InputError(
                f"--freeze_blocks {count}: --backbone {self.name} has {len(levels)} blocks"
            )
        if count == 0:
            return
        modules = list(self.model.named_modules())  # in the order of the data
        last = max(
            index
            for index, (name, _) in enumerate(modules)
            if f"{name}.".startswith(f"{levels[count - 1]}.")
        )
        for _, module in modules[: last + 1]:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """As nn.Module.train, with batch norm left in eval mode."""
        super().train(mode)
        freeze_batch_norm(self)
        return self

    # ============ maps ============
    def fit(self, x: Tensor) -> Tensor:
        """The image at sides that the model takes: resized to whole patches, or padded with 0 at
        the right and bottom.
        """
        height, width = x.shape[2:]
        if self.plain:
            size = [whole_patches(side, self.patch) for side in (height, width)]
            # always, for an exported graph: at the size it has already, this changes nothing
            return F.interpolate(x, size, mode="bilinear", align_corners=False)
        if self.pads:
            right, bottom = (self._padded(side) - side for side in (width, height))
            return F.pad(x, (0, right, 0, bottom))
        return x

    @property
    def pads(self) -> bool:
        """Whether there are sides that the model does not take as they are."""
        return max(self.unit, self.least) > 1

    def _padded(self, side: int) -> int:
        """A side as the model takes it, pixels."""
        whole = side + -side % self.unit
        # a side without number, of a graph for any size, is over any least
        return max(whole, self.least) if isinstance(whole, int) else whole

    def levels(self, x: Tensor, indices: list[int]) -> list[Tensor]:
        """The model's intermediate maps (timm's indices, in rising order), (B, channels, h, w)."""
        maps = self.model.forward_intermediates(
            self.fit(x), indices=indices, output_fmt="NCHW", intermediates_only=True
        )
        return self._cut_all(maps, indices, x)

    def last_and_levels(self, x: Tensor, indices: list[int]) -> tuple[Tensor, list[Tensor]]:
        """(the last map, after all that the model has before its pooling; levels(x, indices), of
        which the last must be asked for), (B, channels, h, w).
        """
        last, maps = self.model.forward_intermediates(
            self.fit(x), indices=indices, output_fmt="NCHW"
        )
        last = self._final_norm(_as_map(last, maps[-1].shape[2:]))
        return self._cut(last, x, -1), self._cut_all(maps, indices, x)

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The two early maps and the last one, (B, channels, h, w)."""
        indices = sorted({*self.early, len(self.model.feature_info) - 1})
        last, maps = self.last_and_levels(x, indices)
        at = dict(zip(indices, maps, strict=True))
        return [*(at[index] for index in self.early), last]

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """conv4, conv5: two earlier maps at unit_scale, conv6: the deepest, each (B, channels, h,
        w) at its own stride.
        """
        conv4, conv5, conv6 = self.forward_maps(x)
        return {"conv4": unit_scale(conv4), "conv5": unit_scale(conv5), "conv6": conv6}

    def _final_norm(self, last: Tensor) -> Tensor:
        """The norm that a plain transformer with pooled tokens has after its pooling, of each
        token.
        """
        norm = getattr(self.model, "fc_norm", None)
        if not self.plain or norm is None or isinstance(norm, nn.Identity):
            return last
        return norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _cut_all(self, maps: list[Tensor], indices: list[int], x: Tensor) -> list[Tensor]:
        """_cut of the maps of indices."""
        return [self._cut(level, x, index) for level, index in zip(maps, indices, strict=True)]

    def _cut(self, level: Tensor, x: Tensor, index: int) -> Tensor:
        """The part of map index that lies on the image, not on its padding."""
        if not self.pads:
            return level
        height, width = x.shape[2:]
        stride = self.model.feature_info[index]["reduction"]
        rows, columns = (
            torch.arange((side + stride - 1) // stride, device=x.device) for side in (height, width)
        )
        # no slices: a graph for any size would hold whether anything is cut off
        return level.index_select(2, rows).index_select(3, columns)

    def pretrained_modules(self) -> Iterator[nn.Module]:
        """Every module of the backbone; what a subclass adds is new."""
        yield from self.model.modules()


def whole_patches(side: int, patch: int) -> int:
    """The multiple of patch that is nearest to side, at least one patch."""
    return max((side + patch // 2) // patch, 1) * patch


def _as_map(last: Tensor, size: tuple[int, int]) -> Tensor:
    """timm's last features as (B, C, h, w), size (h, w): tokens (B, prefix + h * w, C), channels
    last, or as they are.
    """
    height, width = size
    if last.ndim == 3:
        # no len(): it would fix the batch of an exported graph
        grid = last[:, last.shape[1] - height * width :].reshape(
            last.shape[0], height, width, last.shape[2]
        )
        return grid.permute(0, 3, 1, 2)
    return last if last.shape[2:] == size else last.permute(0, 3, 1, 2)
