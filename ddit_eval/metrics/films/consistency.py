"""Subject and background consistency: do the frames of a film stay alike, in a network's features?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import CLIP_B32, DINO
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import MARGIN, NETWORKS, VBENCH, FilmMetric, name_of
from ddit_eval.metrics.pictures import clip_frames as clip
from ddit_eval.metrics.pictures.reader_lpips import missing
from ddit_eval.metrics.weights import READER, shipped
from ddit_eval.world import reader

if TYPE_CHECKING:
    from torch import nn

# Frames (T, 3, H, W) in [0, 1] to features (T, D).
Encode: TypeAlias = Callable[[Tensor], Tensor]

SIDE, PATCH = 224, 16
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCE = f"{VBENCH}: mean over t of half max(0, cos(f[t - 1], f[t])) and half max(0, cos(f[0], f[t]))"


def consistency(features: Tensor) -> float:
    """How alike the frames are to the one before and to the first: features (T, D) to [0, 1].

    The mean over t = 1 .. T - 1 of [max(0, cos(f[t-1], f[t])) + max(0, cos(f[0], f[t]))] / 2, float64.
    """
    if features.ndim != 2 or len(features) < 2:
        raise DditError(
            f"consistency needs features (T, D) of 2 frames at least, not {tuple(features.shape)}"
        )
    unit = F.normalize(features.double(), dim=1)
    to_last = (unit[1:] * unit[:-1]).sum(1).clamp(min=0)
    to_first = (unit[1:] @ unit[0]).clamp(min=0)
    return min(1.0, float((to_last + to_first).mean() / 2))  # a cosine may exceed 1 by its rounding


def consistency_metric(dimension: str, encode: Encode, network: str, label: str | None = None) -> FilmMetric:
    """subject_consistency or background_consistency with features of your own network.

    `network` says which, and `label` names the stand-in if it is not VBench's.
    """

    @torch.no_grad()
    def measure(film: Film, prompt: str) -> float:
        return consistency(encode(film.frames))

    name = name_of(dimension, network, label)
    return FilmMetric(name, measure, SOURCE, network, margin=MARGIN)


# Networks.


@lru_cache(maxsize=1)
def _dino() -> nn.Module:
    return dino_network(DINO.load())


def dino_network(state: dict[str, Tensor]) -> nn.Module:
    """DINO's ViT-B/16 (Caron et al. 2021, arXiv 2104.14294) with these weights, in timm's implementation."""
    from timm import create_model

    network: nn.Module = create_model("vit_base_patch16_224.dino", pretrained=False, num_classes=0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        line = str(error).splitlines()[0]
        raise DditError(f"these weights are not DINO's ViT-B/16: {line}; copy {DINO.file} again") from error
    return network.eval().requires_grad_(False)


def dino_features(frames: Tensor, network: Any = None, chunk: int = 16) -> Tensor:
    """The class token of DINO ViT-B/16: (T, 3, H, W) in [0, 1] to (T, 768).

    The shorter side is brought to 224 (bilinear, no antialias, no crop), as VBench does.
    """
    from torchvision.transforms.v2.functional import normalize, resize

    network = network or _dino().to(frames.device)
    small = resize(frames.float(), [SIDE], antialias=False)
    small = normalize(small, list(_MEAN), list(_DEVIATION))
    # The patches' convolution drops what is left over; timm wants it dropped beforehand.
    small = small[..., : small.shape[-2] // PATCH * PATCH, : small.shape[-1] // PATCH * PATCH]
    return torch.cat([_class_token(network, part) for part in small.split(chunk)])


def _class_token(network: Any, pictures: Tensor) -> Tensor:
    rows, columns = pictures.shape[-2] // PATCH, pictures.shape[-1] // PATCH
    patches = network.patch_embed.proj(pictures).flatten(2).transpose(1, 2)
    token, grid = network.pos_embed[:, :1], network.pos_embed[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    if (rows, columns) != (side, side):
        square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        # The .1 is DINO's own, against rounding down; it moves the grid a little, and is kept.
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = F.interpolate(square, scale_factor=scale, mode="bicubic").flatten(2).transpose(1, 2)
    first = (network.cls_token + token).expand(len(pictures), -1, -1)
    tokens = network.blocks(torch.cat([first, patches + grid], 1))
    return network.norm(tokens)[:, 0]


def reader_features(frames: Tensor) -> Tensor:
    """What the world's reader sees in each frame: (T, 3, H, W) in [0, 1] to (T, shapes + colours + textures).

    The share of the picture that reads as each shape, colour and texture. Motion keeps it, a change of
    shape or colour does not.
    """
    logits = reader.load_reader()(reader.at_its_side(frames.cpu().float()))
    # Class 0 is the background.
    shares = [part.softmax(1)[:, 1:].mean((2, 3)) for part in logits.split(reader.CLASSES, 1)]
    return torch.cat(shares, 1)


def _clip_features(frames: Tensor) -> Tensor:
    return clip.frame_features(clip.openai("ViT-B-32", CLIP_B32), frames)


SUBJECT = replace(
    consistency_metric("subject_consistency", dino_features, str(NETWORKS["subject_consistency"])),
    checkpoints=(DINO,),
)
BACKGROUND = replace(
    consistency_metric("background_consistency", _clip_features, str(NETWORKS["background_consistency"])),
    checkpoints=(CLIP_B32,),
)
SUBJECT_READER = replace(
    consistency_metric(
        "subject_consistency",
        reader_features,
        "world reader (shipped), shares of shapes, colours and textures",
        "reader",
    ),
    note="a stand-in for DINO, of the captioned world alone; not comparable with published figures",
    files=shipped(READER),
    lacks=missing,
)
BACKGROUND_WORLD = replace(
    consistency_metric(
        "background_consistency", clip.world_features, "CLIP of the captioned world (shipped)", "clip-world"
    ),
    note="a stand-in for OpenAI's CLIP, of the captioned world alone; not comparable with published figures",
    files=clip.WORLD_FILE,
    lacks=clip.no_world,
)
