"""The losses of CPN, SEAM and the plain CAM baseline: pure functions of raw CAMs, one a term, named
as the released code logs them.

Sizes: B images, C foreground classes, K = C + 1 maps with background first. A triple holds the maps
of the three branches in the order (whole image, patch, complement). All weights are 1. Source: CPN
section 3.2 and released code; SEAM section 3.

An image without any class (a row of zeros in label) has the classification loss alone. It has no
labelled map, so its part of every other term is 0, its background included, which those terms
would pull to a constant. Means stay over all B images of the batch: an image with classes weighs
the same in every term whatever stands beside it, and a batch cut into parts gives the same sums.
The released code knows no such images; where all have a class nothing differs from it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.cam import keep_max, normalise_cam, set_background, widened
from tool.choices import SEAM_SCALE
from tool.mask_values import IGNORE_LABEL

MIN_POOL_FRACTION = 4  # loss_rvmin averages H*W // 4 pixels
OHEM_FRACTION = 0.2
SHOWN_SHARE = 0.002  # of a crop, under which a class counts as not shown


def _check_maps(maps: Sequence[Tensor], label: Tensor) -> None:
    for cam in maps:
        if cam.ndim != 4 or cam.shape[0] != label.shape[0] or cam.shape[1] != label.shape[1] + 1:
            raise ValueError(
                f"CAM of shape {tuple(cam.shape)} does not fit labels {tuple(label.shape)}: "
                "expected (B, C + 1, H, W)"
            )


def label_with_background(label: Tensor) -> Tensor:
    """(B, C) multi-hot -> (B, C + 1, 1, 1) with 1 for background, to multiply maps with."""
    return F.pad(label, (1, 0), value=1.0)[:, :, None, None]


def global_average(cam: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """The mean over pixels of the foreground maps, (B, C), of cam (B, K, h, w) or of cam resized
    bilinearly (align_corners) to size.

    The mean of a resized map is a weighted mean of the map, so nothing is resized. That is computed
    in float32, under autocast too.
    """
    if size is None:
        return cam[:, 1:].mean(dim=(2, 3))
    rows, columns = (
        _resize_weights(source, target, cam)
        for source, target in zip(cam.shape[2:], size, strict=True)
    )
    with torch.autocast(cam.device.type, enabled=False):
        return torch.einsum("bkhw,h,w->bk", cam[:, 1:].float(), rows, columns)


def _resize_weights(source: int, target: int, like: Tensor) -> Tensor:
    """(source,) weight of each cell in the mean of a line resized to `target` pixels."""
    basis = torch.eye(source, device=like.device).unsqueeze(1)
    return F.interpolate(basis, target, mode="linear", align_corners=True).mean(dim=(1, 2))


def loss_classification(logits: Tensor, label: Tensor) -> Tensor:
    """Multilabel soft margin between global averages of the raw foreground CAM, (B, C), and the
    image label (B, C); a scalar.
    """
    return F.multilabel_soft_margin_loss(logits, label)


def loss_rvmin(refined: Tensor, label: Tensor) -> Tensor:
    """Adaptive min pooling: mean of relu over the H*W // 4 smallest pixels of the refined CAM's
    labelled maximum; a scalar.

    refined: (B, K, H, W) raw; label: (B, C). It asks that a quarter of each image be free of every
    labelled class.
    """
    foreground = (refined[:, 1:] * label[:, :, None, None]).amax(dim=1).flatten(1)
    count = max(1, foreground.shape[1] // MIN_POOL_FRACTION)
    smallest = foreground.topk(count, dim=1, largest=False, sorted=False).values
    return F.relu(smallest).sum() / (count * foreground.shape[0])


def loss_tcp(
    cams: Sequence[Tensor], refined: Sequence[Tensor], classes: int | None = None
) -> Tensor:
    """Triplet CP loss: mean |sg(a1) + sg(a2) - a| + mean |r - r1 - r2| over foreground channels; a
    scalar.

    cams, refined: triples a, r of normalised maps times label times visible fraction, (B, K, H, W).
    Only the plain term stops the gradient of the two branches.
    classes:       foreground channels to average over, where the maps leave out channels that are 0
    """
    (a, a1, a2), (r, r1, r2) = cams, refined
    return _channel_mean(a1.detach() + a2.detach() - a, classes) + _channel_mean(
        r - r1 - r2, classes
    )


def _channel_mean(difference: Tensor, classes: int | None) -> Tensor:
    foreground = difference[:, 1:]
    return foreground.abs().mean() * (foreground.shape[1] / (classes or foreground.shape[1]))


def has_class(label: Tensor) -> Tensor:
    """(B, 1, 1, 1) 1 for the images whose label (B, C) has a class, 0 for the others; to multiply
    maps with.
    """
    return label.amax(dim=1)[:, None, None, None]


def hardest_mean(difference: Tensor, classes: int | None = None) -> Tensor:
    """Online hard example mining: per image the mean of the largest int(0.2 * K*H*W) entries,
    averaged over images; a scalar.

    difference: (B, K, H, W), not negative
    classes:    K - 1, where difference leaves out channels that are 0
    An image with at most that many entries above 0 gets their sum / count, without a sort.
    """
    flat = difference.flatten(1)
    maps = classes + 1 if classes else difference.shape[1]
    count = max(1, int(OHEM_FRACTION * maps * difference.shape[2] * difference.shape[3]))
    if flat.shape[1] > count:
        flat = flat.topk(count, dim=1, sorted=False).values
    return flat.sum() / (count * flat.shape[0])


def loss_cpcr(
    cams: Sequence[Tensor],
    refined: Sequence[Tensor],
    classes: int | None = None,
    shown: Tensor | float = 1.0,
) -> Tensor:
    """CP cross regularisation: OHEM |keepmax(a - a1) - r2| + OHEM |keepmax(a - a2) - r1|; a scalar.

    cams, refined: triples as for loss_tcp. Background becomes 1 - max of the foreground in all six
    maps first. What the whole image shows and one part does not, the other part must show; the
    targets carry no gradient.
    classes:       as for loss_tcp; one channel of zeros, the last, must then stand for those left
                   out
    shown:         has_class of the labels; images without a class count as 0
    """
    a, a1, a2 = (set_background(cam) for cam in cams)
    _, r1, r2 = (set_background(cam) for cam in refined)
    target1, target2 = keep_max((a - a1).detach()), keep_max((a - a2).detach())
    # The last of some channels is 0 in all maps; without it no image of up to three classes needs a
    # sort.
    channels = a.shape[1] if classes is None or a.shape[1] == classes + 1 else a.shape[1] - 1
    one, two = (target1 - r2)[:, :channels].abs(), (target2 - r1)[:, :channels].abs()
    return hardest_mean(one * shown, classes) + hardest_mean(two * shown, classes)


def weigh(cams: Sequence[Tensor], label: Tensor, weights: Sequence[Tensor | float]) -> list[Tensor]:
    """normalise_cam(cam) * label * weight for each branch, background channel kept; weights are
    scalars or (B,).
    """
    label = label_with_background(label)
    shaped = [w.to(label).view(-1, 1, 1, 1) if isinstance(w, Tensor) else w for w in weights]
    return [normalise_cam(cam) * label * weight for cam, weight in zip(cams, shaped, strict=True)]


def loss_er(cam: Tensor, cam_small: Tensor, classes: int | None = None) -> Tensor:
    """SEAM's equivariance term: mean |a resized - a of the resized image| over foreground channels;
    a scalar.
    """
    return _channel_mean(cam - cam_small, classes)


def loss_ecr(
    cams: Sequence[Tensor],
    refined: Sequence[Tensor],
    classes: int | None = None,
    shown: Tensor | float = 1.0,
) -> Tensor:
    """SEAM's equivariant cross regularisation: OHEM |target of one branch - refined of the other|,
    both ways, added; a scalar.

    cams, refined: pairs (full, small), normalised, labelled, at the small size (B, K, h, w). The
    target keeps the background 1 - max and, per pixel, the largest foreground value; the refined
    maps keep their own background channel. shown: as for loss_cpcr.
    """
    targets = []
    for cam in cams:
        background, foreground = set_background(cam.detach()).split([1, cam.shape[1] - 1], dim=1)
        targets.append(torch.cat([background, keep_max(foreground)], dim=1))
    one, two = (targets[1] - refined[0]).abs(), (targets[0] - refined[1]).abs()
    return hardest_mean(one * shown, classes) + hardest_mean(two * shown, classes)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def seam_scale(image: Tensor, scale: float = SEAM_SCALE) -> Tensor:
    """image (B, C, H, W) at scale of its size, floor(scale * side), bilinear with aligned corners:
    SEAM's second branch, at 0.3 as released.
    """
    return _resize(image, [int(scale * side) for side in image.shape[2:]])


def _full_precision(losses: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
    """losses with autocast off and maps of half precision widened to float32; other number types
    stay.
    """

    def all_widened(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [all_widened(part) for part in value]
        return widened(value) if isinstance(value, Tensor) else value

    @functools.wraps(losses)
    def run(maps: Tensor | Sequence[Tensor], *others: Any, **named: Any) -> dict[str, Tensor]:
        device = maps.device if isinstance(maps, Tensor) else maps[0].device
        with torch.autocast(device.type, enabled=False):
            return losses(all_widened(maps), *map(all_widened, others), **named)

    return run


@_full_precision
def cpn_losses(
    cams: Sequence[Tensor], refined: Sequence[Tensor], label: Tensor, visible: Tensor
) -> dict[str, Tensor]:
    """The three losses of CPN and their sum: {loss_cls, loss_tcp, loss_cpcr, loss}, scalars.

    cams, refined: triples (whole, patch, complement) of raw maps (B, C + 1, H, W)
    label:         (B, C) multi-hot
    visible:       (B,) fraction c1 of the patch image that shows; the complement's is 1 - c1
    Raises ValueError when the shapes disagree. cpn_losses_low_resolution gives the same values
    faster.
    """
    _check_maps([*cams, *refined], label)
    label = label.to(cams[0])
    return _cpn_terms([global_average(cam) for cam in cams], label, cams, refined, label, visible)


@_full_precision
def cpn_losses_low_resolution(
    cams: Sequence[Tensor],
    refined: Sequence[Tensor],
    label: Tensor,
    visible: Tensor,
    size: Sequence[int],
) -> dict[str, Tensor]:
    """cpn_losses of the maps resized bilinearly (align_corners) to size (H, W), from raw maps (B, C
    + 1, h, w) of the network.

    Only maps of labelled classes are resized: all others are multiplied by 0 in every term but the
    global average, which needs no resizing.
    """
    _check_maps([*cams, *refined], label)
    label = label.to(cams[0])
    logits = [global_average(cam, size) for cam in cams]
    (cams, refined), kept = _labelled_maps((cams, refined), label, [size] * len(cams))
    return _cpn_terms(logits, label, cams, refined, kept, visible)


def _cpn_terms(logits, label, cams, refined, kept: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """logits (B, C) and label (B, C) of all classes; maps (B, M + 1, H, W) and their labels kept
    (B, M) of some or all.
    """
    weights = (1.0, visible, 1.0 - visible)
    a, r = weigh(cams, kept, weights), weigh(refined, kept, weights)
    classes = label.shape[1]
    losses = {
        "loss_cls": _loss_cls(logits, label, refined, kept),
        "loss_tcp": loss_tcp(a, r, classes),
        "loss_cpcr": loss_cpcr(a, r, classes, has_class(label)),
    }
    return losses | {"loss": sum(losses.values())}


def _loss_cls(
    logits: Sequence[Tensor], label: Tensor, refined: Sequence[Tensor], kept: Tensor
) -> Tensor:
    """Classification loss of CPN and SEAM: the mean over branches of loss_classification plus that
    of loss_rvmin.
    """
    classification = torch.stack([loss_classification(logit, label) for logit in logits]).mean()
    return classification + torch.stack([loss_rvmin(cam, kept) for cam in refined]).mean()


def _labelled_maps(groups, label: Tensor, sizes) -> tuple[list[list[Tensor]], Tensor]:
    """Background and labelled maps of each branch, resized: ([[(B, M + 1, H, W), ...], ...], labels
    (B, M)).

    M is the largest number of labels of an image plus one map without a label, which stands for all
    absent classes (none where an image has every class).
    """
    count = min(int(label.sum(dim=1).max()) + 1, label.shape[1])
    order = label.argsort(dim=1, descending=True, stable=True)[:, :count]
    channels = F.pad(order + 1, (1, 0))[:, :, None, None]
    selected = []
    for group in groups:
        maps = [cam.float().gather(1, channels.expand(-1, -1, *cam.shape[2:])) for cam in group]
        maps = [_resize(cam, size) for cam, size in zip(maps, sizes, strict=True)]
        selected.append(maps)
    return selected, label.gather(1, order)


@_full_precision
def seam_losses(
    cams: Sequence[Tensor], refined: Sequence[Tensor], label: Tensor
) -> dict[str, Tensor]:
    """The losses of SEAM and their sum: {loss_cls, loss_er, loss_ecr, loss}, scalars.

    cams, refined: pairs of raw maps (B, C + 1, H, W): of the image, and of seam_scale(image) at its
                   own size
    label:         (B, C) multi-hot
    Maps of the full image are normalised at full size and then scaled. Raises ValueError when the
    shapes disagree.
    """
    _check_maps([*cams, *refined], label)
    label = label.to(cams[0])
    return _seam_terms([global_average(cam) for cam in cams], label, cams, refined, label)


@_full_precision
def seam_losses_low_resolution(
    cams: Sequence[Tensor], refined: Sequence[Tensor], label: Tensor, sizes: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """seam_losses of the maps resized to sizes, one (H, W) a branch, from raw maps of the network;
    see cpn_losses_low_resolution.
    """
    _check_maps([*cams, *refined], label)
    label = label.to(cams[0])
    logits = [global_average(cam, size) for cam, size in zip(cams, sizes, strict=True)]
    (cams, refined), kept = _labelled_maps((cams, refined), label, sizes)
    return _seam_terms(logits, label, cams, refined, kept)


def _seam_terms(logits, label, cams, refined, kept: Tensor) -> dict[str, Tensor]:
    (a, a_small), (r, r_small) = weigh(cams, kept, (1.0, 1.0)), weigh(refined, kept, (1.0, 1.0))
    a, r = (_resize(cam, a_small.shape[2:]) for cam in (a, r))
    classes = label.shape[1]
    losses = {
        "loss_cls": _loss_cls(logits, label, refined, kept),
        "loss_er": loss_er(a, a_small, classes),
        "loss_ecr": loss_ecr((a, a_small), (r, r_small), classes, has_class(label)),
    }
    return losses | {"loss": sum(losses.values())}


@_full_precision
def cam_losses(cam: Tensor, label: Tensor, size: Sequence[int] | None = None) -> dict[str, Tensor]:
    """The plain baseline: {loss_cls, loss}, classification only; cam: (B, C + 1, H, W) raw, or to
    be taken as resized to size.
    """
    _check_maps([cam], label)
    loss = loss_classification(global_average(cam, size), label.to(cam))
    return {"loss_cls": loss, "loss": loss}


def segmentation_loss(
    logits: Tensor, label: Tensor, average: Callable[[Tensor], Tensor] = torch.clone
) -> Tensor:
    """Mean cross entropy over the pixels of the batch that have a class, in float32; 0 when none
    has.

    logits:  (B, K, h, w), resized bilinearly to the label; label: (B, H, W) uint8, 0..K-1,
             IGNORE_LABEL for pixels without a class
    average: the mean over ranks of their counts of pixels, where each has a part of the batch
             (tool.run.distributed.mean_over_ranks)
    """
    logits = F.interpolate(logits.float(), label.shape[1:], mode="bilinear", align_corners=False)
    counted = average((label != IGNORE_LABEL).sum().float())
    # As a list of pixels: CUDA has no deterministic cross entropy of maps.
    pixels = logits.permute(0, 2, 3, 1).flatten(0, 2)
    total = F.cross_entropy(
        pixels, label.flatten().long(), ignore_index=IGNORE_LABEL, reduction="sum"
    )
    return total / counted.clamp(min=1).to(total)


def loss_tags(tags: Tensor, label: Tensor) -> Tensor:
    """Multi-label soft margin of an image's class logits (B, C) against the classes that its label
    (B, H, W) shows, uint8, 0..C, on SHOWN_SHARE of the pixels or more; IGNORE_LABEL shows none. Of
    train_seg.py's second head, not in the papers.
    """
    classes = torch.arange(1, tags.shape[1] + 1, device=label.device)
    share = torch.stack([(label == value).float().mean((1, 2)) for value in classes], dim=1)
    return loss_classification(tags.float(), (share >= SHOWN_SHARE).float())
