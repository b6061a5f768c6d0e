"""CLIP score: does a picture go with its prompt, in the features of a contrastive network?

The value is 100 x cosine, one a picture, never clipped (Radford et al. 2021, arXiv 2103.00020, for the
network; Hessel et al. 2021, arXiv 2104.08718, for the use). Others write the same cosine otherwise:

* DDiT's tables (about 0.31) are the raw cosine: our value / 100;
* CLIPScore of Hessel et al. is 2.5 max(0, cosine): max(0, our value) / 40;
* torchmetrics clips the *mean* at zero, so its figure is max(0, mean of our values);
* `logits_per_image` of a CLIP is the cosine times its learned scale, near 100 for OpenAI's.

Figures of two networks are not comparable, so the name of the network goes with every figure. `clip-world` is
the small network of the captioned world that ships; `clip` is the one that the environment names:

    export DDIT_CLIP_CHECKPOINT=FOLDER                      # open_clip_config.json and weights
    export DDIT_CLIP_CHECKPOINT=FILE DDIT_CLIP_ARCHITECTURE=ViT-B-32/openai

In Python, `clip_metric(checkpoint, architecture)` is the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.metrics.metric import Column, Metric, unavailable
from ddit_eval.metrics.pictures.clip_network import (
    Clip,
    ClipSource,
    caption_features,
    cosines,
    load_clip,
    missing,
    picture_features,
)
from ddit_eval.metrics.weights import SHIPPED, shipped
from ddit_eval.system.read import file_digest, read_json

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT, ARCHITECTURE = "DDIT_CLIP_CHECKPOINT", "DDIT_CLIP_ARCHITECTURE"
MARGIN = 1.0  # one hundredth of a cosine
SOURCE = "100 x cosine of open_clip features, not clipped (raw cosine: / 100; 2.5 max(0, cos): / 40)"
_WEIGHTS = f"what {CHECKPOINT} names (ViT-B-32/openai: 0.6 GB, no published hash)"
_UNNAMED = (
    f"clip: no network is named; set {CHECKPOINT} to the folder or weights file of an open_clip model "
    f"(and {ARCHITECTURE} for a file; ViT-B-32/openai is 0.6 GB, no published hash), "
    "or measure `clip-world`, the small CLIP that ships"
)


def clip_score(clip: Clip, pictures: Tensor, captions: Sequence[str]) -> Tensor:
    """100 x cosine of each picture with its caption: float (N, 3, H, W) in [0, 1] to (N,), -100 to 100."""
    return 100 * cosines(picture_features(clip, pictures), caption_features(clip, captions))


def clip_metric(
    checkpoint: str | Path,
    architecture: str | None = None,
    *,
    name: str = "clip",
    title: str | None = None,
    note: str | None = None,
) -> Metric:
    """The CLIP score of any network that open_clip loads, as a metric called `name`; see `ClipSource`.

    Nothing is loaded before the first value. `title` is what a reader is told of the network, to which
    the hash of its weights is added.
    """
    source = ClipSource(Path(checkpoint).expanduser(), architecture)

    def measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
        return {name: clip_score(load_clip(source), pictures, prompts).tolist()}

    weights = source.weights()
    digest = f", SHA-256 {file_digest(weights)[:12]}" if weights.is_file() else ""
    return Metric(
        name,
        (_column(name),),
        "prompts",
        measure,
        source=SOURCE,
        network=f"{title or source.name} ({weights.name}{digest})",
        note=note,
        weights=shipped(weights) if SHIPPED in weights.parents else f"{weights.name}{digest}",
        missing=lambda: missing(source),
    )


def _ranking(folder: Path) -> str:
    """How well the network in `folder` ranks captions, as its training measured it on held-out scenes."""
    log = folder / "training.json"
    heldout = read_json(log).get("heldout", {}) if log.is_file() else {}
    recall = heldout.get("recall@1 among 64, picture to caption")
    if recall is None:
        return ""
    return f"; of 64 captions it ranks the right one first for {recall:.1%} of {heldout['scenes']} scenes"


def _column(name: str) -> Column:
    return Column(name, "higher", -100.0, 100.0, role="score", margin=MARGIN)


def chosen(environment: Mapping[str, str]) -> Metric:
    """The metric `clip` for these variables; without them it says what to set."""
    if checkpoint := environment.get(CHECKPOINT):
        return clip_metric(checkpoint, environment.get(ARCHITECTURE) or None)
    return Metric(
        "clip",
        (_column("clip"),),
        "prompts",
        unavailable(_UNNAMED),
        source=SOURCE,
        weights=_WEIGHTS,
        missing=lambda: _UNNAMED,
    )


WORLD = clip_metric(
    SHIPPED / "clip",
    name="clip-world",
    title="world CLIP (shipped)",
    note="a small CLIP trained on the captioned world alone; not comparable with published CLIP scores"
    + _ranking(SHIPPED / "clip"),
)
CHOSEN = chosen(os.environ)
