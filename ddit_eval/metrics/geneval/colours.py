"""GenEval's colour classifier: which of ten colours a CLIP sees in an object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.metrics.geneval.metadata import COLOURS
from ddit_eval.metrics.geneval.protocol import Detection
from ddit_eval.metrics.pictures.clip_score import Clip, caption_features, picture_features

_TEMPLATES = ("a photo of a {} {}", "a photo of a {}-colored {}", "a photo of a {} object")
GREY = 0x99 / 255  # what stands for everything outside of a mask


def clip_colours(clip: Clip, picture: Tensor, found: Sequence[Detection], name: str) -> list[str]:
    """The colour of each object in a picture (3, H, W) in [0, 1], zero-shot (GenEval: OpenAI's ViT-L/14).

    What is outside of an object's mask is grey, and the picture is cut to its box. A colour is the mean of
    the unit features of its three captions.
    """
    if not found:
        return []
    texts = [t.format(colour, name) for colour in COLOURS for t in _TEMPLATES]
    each = F.normalize(caption_features(clip, texts), dim=1).view(len(COLOURS), len(_TEMPLATES), -1)
    seen = torch.cat([picture_features(clip, crop(picture, one)[None]) for one in found])
    nearest = (F.normalize(seen, dim=1) @ F.normalize(each.mean(1), dim=1).T).argmax(1)
    return [COLOURS[index] for index in nearest.tolist()]


def crop(picture: Tensor, one: Detection) -> Tensor:
    """An object cut out of a picture (3, H, W), at least one pixel wide and high."""
    if one.mask is not None:
        picture = torch.where(torch.as_tensor(one.mask).to(picture.device), picture, GREY)
    left, top, right, bottom = (round(edge) for edge in one.box)
    height, width = picture.shape[-2:]
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return picture[:, top : max(bottom, top + 1), left : max(right, left + 1)]
