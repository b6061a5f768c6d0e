"""CLIP features of frames, prepared as VBench prepares them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.metrics.checkpoints import Weights
from ddit_eval.metrics.pictures.clip_network import (
    Clip,
    ClipSource,
    caption_features,
    load_clip,
    missing,
    picture_features,
)
from ddit_eval.metrics.weights import SHIPPED, shipped

SIDE = 224
WORLD_FILE = shipped(SHIPPED / "clip" / "open_clip_model.safetensors")
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def prepared(frames: Tensor, side: int = SIDE) -> Tensor:
    """Frames as VBench gives them to CLIP: (T, 3, H, W) in [0, 1] to (T, 3, side, side).

    The shorter side to `side` (bicubic, no antialias, not clipped), the centre, CLIP's mean and deviation.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import center_crop, normalize, resize

    small = resize(frames.float(), [side], interpolation=InterpolationMode.BICUBIC, antialias=False)
    return normalize(center_crop(small, [side, side]), list(_MEAN), list(_DEVIATION))


@torch.no_grad()
def frame_features(clip: Clip, frames: Tensor, chunk: int = 16) -> Tensor:
    """Features of frames by OpenAI's preparation, not normalised: (T, 3, H, W) in [0, 1] to (T, D)."""
    device = next(clip.network.parameters()).device
    parts = prepared(frames).split(chunk)
    return torch.cat([clip.network.encode_image(part.to(device)).float().cpu() for part in parts])


def openai(architecture: str, weights: Weights) -> Clip:
    """OpenAI's CLIP of that architecture (open_clip's name) from local weights."""
    return load_clip(ClipSource(weights.path(), f"{architecture}/openai", weights.sha256))


def world() -> ClipSource:
    """Where the small CLIP of the captioned world ships."""
    return ClipSource(SHIPPED / "clip")


def no_world() -> str | None:
    """Why the small CLIP of the captioned world cannot be used here, or None."""
    source = world()
    if not source.checkpoint.is_dir():
        return (
            f"the small CLIP of the captioned world belongs at {source.checkpoint} and is not there; "
            "reinstall the package, or train it with `python -m experiments.recipes.clip`"
        )
    return missing(source)


def world_features(frames: Tensor) -> Tensor:
    """Features of frames by the small CLIP of the captioned world: (T, 3, H, W) in [0, 1] to (T, D)."""
    return picture_features(load_clip(world()), frames)


def world_similarity(frames: Tensor, prompt: str) -> float:
    """Cosine of the frames' mean feature with the prompt's, by the small CLIP: -1 to 1."""
    film = F.normalize(world_features(frames), dim=1).mean(0)
    return float(F.cosine_similarity(film, caption_features(load_clip(world()), [prompt])[0], dim=0))
