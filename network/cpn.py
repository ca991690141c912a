"""The CPN network: a backbone, the CAM head, and the two modules that refine its CAM, PCM and PRCM.

Sizes: B images, K = classes + 1 maps with background first, H x W input, h x w features, N = h * w
pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.resnet38 import ResNet38
from tool.cam import EPS, cam_prior, widened
from tool.choices import PRCM_KEYS, REFINEMENTS

# Columns of the N x N affinity that inference computes at a time, fewer on maps so large that the
# block would have more than PCM_ELEMENTS numbers, 64 MiB.
PCM_BLOCK = 1024
PCM_ELEMENTS = 16 * 2**20
HEAD_DROPOUT = 0.5  # of whole channels, before the CAM head


def pixel_correlation(prior: Tensor, embedding: Tensor) -> Tensor:
    """PCM: the prior averaged over the pixels that look alike; (B, K, h, w).

    prior:     (B, K, h, w)
    embedding: (B, D, h, w), f9 of the feature, not yet normalised
    A = relu(g^T g) with g of unit length per pixel, every column divided by its sum, refined =
    prior A. Computed in float32. The columns are divided after the product, which saves passes over
    N x N. Without gradient, A is made in blocks of columns and never held whole. Source: SEAM (CVPR
    2020), section 3.3; released code.
    """
    with torch.autocast(prior.device.type, enabled=False):
        shape = prior.shape
        # the last row adds up A's columns
        rows = F.pad(prior.float().flatten(2), (0, 0, 0, 1), value=1.0)
        g = embedding.float().flatten(2)
        g = g / (torch.linalg.vector_norm(g, dim=1, keepdim=True) + EPS)
        trains, pixels = torch.is_grad_enabled(), g.shape[2]
        block = pixels if trains else min(PCM_BLOCK, max(1, PCM_ELEMENTS // pixels))
        columns = []
        for g_block in g.split(block, dim=2):
            affinity = F.relu(g.transpose(1, 2) @ g_block, inplace=not trains)
            spread = rows @ affinity  # (B, K + 1, block)
            columns.append(spread[:, :-1] / (spread[:, -1:] + EPS))
        return torch.cat(columns, dim=2).view(shape)


def spatial_gather(prior: Tensor, feature: Tensor) -> Tensor:
    """Region descriptors r: per map, the mean feature under the softmax of the prior over all
    pixels; (B, F, K, 1).

    prior: (B, K, h, w), feature: (B, F, h, w). Source: CPN section 3.3, an object-contextual gather
    with scale 1. Computed in float32 at least.
    """
    with torch.autocast(prior.device.type, enabled=False):
        weights = widened(prior).flatten(2).softmax(dim=2)  # (B, K, N)
        means = weights @ widened(feature).flatten(2).transpose(1, 2)
        return means.transpose(1, 2).unsqueeze(3)


def pixel_region_correlation(
    prior: Tensor, keys: Tensor, queries: Tensor, key_order: str = "released"
) -> Tensor:
    """PRCM: the prior times the softmax over pixels of region keys . pixel queries; (B, K, h, w).

    prior:     (B, K, h, w)
    keys:      (B, D, K, 1), relu(f10 r)
    queries:   (B, D, h, w), relu(f9 f)
    key_order: "released" reads the memory of (D, K) as (K, D) without transposing, so a key mixes
               channels and classes, which is how the released weights were trained; "transposed" is
               the evident intent.
    Source: CPN section 3.3; released code.
    """
    with torch.autocast(prior.device.type, enabled=False):
        batch, maps = prior.shape[:2]
        keys = keys.float().squeeze(3)
        keys = keys.transpose(1, 2) if key_order == "transposed" else keys.reshape(batch, maps, -1)
        similarity = (keys @ queries.float().flatten(2)) * maps**-0.5  # (B, K, N)
        return similarity.softmax(dim=2).view(prior.shape) * prior.float()


class CPNHead(nn.Module):
    """Mix-in that gives a backbone class the CAM head and the refinement, with the released
    parameter names.
    """

    def _init_head(self, num_classes: int, refinement: str, prcm: str) -> None:
        if refinement not in REFINEMENTS or prcm not in PRCM_KEYS:
            raise ValueError(
                f"refinement {refinement!r} is not in {REFINEMENTS} or prcm {prcm!r} not in "
                f"{PRCM_KEYS}"
            )
        self.num_classes, self.refinement, self.prcm = num_classes, refinement, prcm
        channels4, channels5 = self.early_channels
        self.dropout7 = nn.Dropout2d(HEAD_DROPOUT)
        self.fc8 = nn.Conv2d(self.out_channels, num_classes + 1, 1, bias=False)  # CAM head
        self.f8_3 = nn.Conv2d(channels4, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(channels5, 128, 1, bias=False)
        self.f9 = nn.Conv2d(3 + 64 + 128, 192, 1, bias=False)  # queries, and PCM's embedding
        self.f10 = nn.Conv2d(3 + 64 + 128, 192, 1, bias=False)  # keys
        nn.init.xavier_uniform_(self.fc8.weight)
        nn.init.kaiming_normal_(self.f8_3.weight)
        nn.init.kaiming_normal_(self.f8_4.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)
        nn.init.xavier_uniform_(self.f10.weight, gain=self.key_gain)

    def new_modules(self) -> list[nn.Module]:
        """The layers without pretrained weights, which train at ten times the rate."""
        return [self.fc8, *self.refinement_modules()]

    def refinement_modules(self) -> list[nn.Module]:
        """The new layers of PCM and PRCM."""
        return [self.f8_3, self.f8_4, self.f9, self.f10]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw CAM and refined CAM, both (B, K, H, W), from normalised RGB x (B, 3, H, W)."""
        cam, refined = self.forward_low_resolution(x)
        return self._resize(cam, x), self._resize(refined, x)

    def forward_cam(self, x: Tensor) -> Tensor:
        """The raw CAM alone, (B, K, H, W); the refinement is not computed."""
        return self._resize(self.cam_and_features(x)[0], x)

    def forward_low_resolution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw CAM and refined CAM at feature size, (B, K, h, w)."""
        cam, features = self.cam_and_features(x)
        feature = self.feature(x, features)
        del features  # the deepest map has hundreds of MiB at 12 megapixels
        return cam, self.refine(cam, feature)

    def cam_and_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The raw CAM (B, K, h, w), and the backbone's maps; conv6 may be the CAM in their place,
        if no gradient is wanted.
        """
        features = self.forward_features(x)
        return self.cam(features["conv6"]), features

    def cam(self, conv6: Tensor) -> Tensor:
        """The raw CAM (B, K, h, w) of the deepest map."""
        return self.fc8(self.dropout7(conv6))

    def feature(self, x: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Feature f of the refinement: [image, f8_3 conv4, f8_4 conv5] at feature size, (B, 195, h,
        w).

        conv4 and conv5 are detached, so the refinement does not train the backbone. A backbone
        whose earlier maps have another size than its deepest has them resized like the image
        (ResNet38's all agree).
        """
        size = features["conv6"].shape[2:]
        image = F.interpolate(x, size, mode="bilinear", align_corners=True)
        early = [
            F.relu(self.f8_3(features["conv4"].detach())),
            F.relu(self.f8_4(features["conv5"].detach())),
        ]
        early = [
            e
            if e.shape[2:] == size
            else F.interpolate(e, size, mode="bilinear", align_corners=True)
            for e in early
        ]
        return torch.cat([image, *early], dim=1)

    def refine(self, cam: Tensor, feature: Tensor) -> Tensor:
        """The refined CAM (B, K, h, w): PCM + PRCM of the prior, or what self.refinement names of
        it.
        """
        prior = cam_prior(cam)
        if self.refinement == "none":
            return cam
        embedding = self.f9(feature)
        refined = 0
        if "pcm" in self.refinement.split("+"):
            refined = refined + pixel_correlation(prior, embedding)
        if "prcm" in self.refinement.split("+"):
            keys = F.relu(self.f10(spatial_gather(prior, feature)))
            refined = refined + pixel_region_correlation(prior, keys, F.relu(embedding), self.prcm)
        return refined

    @staticmethod
    def _resize(cam: Tensor, x: Tensor) -> Tensor:
        return F.interpolate(cam.float(), x.shape[2:], mode="bilinear", align_corners=True)


class CPNResNet38(CPNHead, ResNet38):
    """CPN on ResNet38, parameter for parameter the released network."""

    def __init__(self, num_classes: int, refinement: str, prcm: str) -> None:
        ResNet38.__init__(self)
        self._init_head(num_classes, refinement, prcm)

    def cam_and_features(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As CPNHead's; without gradient on a CPU in bands of rows, which takes less memory
        (benchmarks/RESULTS.md).
        """
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return super().cam_and_features(x)
        features = self.forward_in_bands(x, self.cam)
        return features["conv6"], features
