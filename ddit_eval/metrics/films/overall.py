"""Overall consistency: does a film go with its prompt?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import MARGIN, NETWORKS, VBENCH, FilmMetric, name_of
from ddit_eval.metrics.metric import unavailable
from ddit_eval.metrics.pictures import clip_frames as clip

# Frames (8, 3, H, W) in [0, 1] and a prompt to the cosine of their features.
Similarity: TypeAlias = Callable[[Tensor, str], float]

FRAMES = 8
SOURCE = (
    f"{VBENCH}: cosine of the features of 8 frames, the middles of 8 equal parts, with those of the prompt"
)


def middles(count: int, wanted: int = FRAMES) -> list[int]:
    """Indices of the frames in the middle of `wanted` equal parts of `count`; the last one is repeated
    where there are fewer frames than parts.

    >>> middles(16)
    [0, 2, 4, 6, 8, 10, 12, 14]
    """
    parts = min(wanted, count)
    ends = [count * i // parts for i in range(parts + 1)]
    chosen = [(start + end - 1) // 2 for start, end in pairwise(ends)]
    return chosen + chosen[-1:] * (wanted - parts)


def overall_consistency(frames: Tensor, prompt: str, similarity: Similarity) -> float:
    """Raw cosine of a film with its prompt: (T, 3, H, W) in [0, 1] to -1..1."""
    return similarity(frames[middles(len(frames))], prompt)


def overall_consistency_metric(similarity: Similarity, network: str, label: str | None = None) -> FilmMetric:
    """The metric with a network of your own; `network` says which, `label` names the stand-in."""

    def measure(film: Film, prompt: str) -> float:
        return overall_consistency(film.frames, prompt, similarity)

    name = name_of("overall_consistency", network, label)
    return FilmMetric(name, measure, SOURCE, network, low=-1.0, needs="prompts", margin=MARGIN)


_FILES = "ViClip-InternVid-10M-FLT.pth (1.7 GB, no published hash)"
_MISSING = (
    f"overall_consistency: ViCLIP, {_FILES}, has no packaged implementation to load it; pass "
    "one to `overall_consistency_metric(similarity, "
    "network='ViCLIP (InternVid-10M-FLT)')` and register it, or measure `overall_consistency-clip-world`"
)
METRIC = replace(
    overall_consistency_metric(unavailable(_MISSING), str(NETWORKS["overall_consistency"])),
    files=_FILES,
    lacks=lambda: _MISSING,
)
WORLD = replace(
    overall_consistency_metric(
        clip.world_similarity,
        "CLIP of the captioned world (shipped), mean of the frames' features",
        "clip-world",
    ),
    note="a stand-in for ViCLIP that sees no motion; not comparable with published figures",
    files=clip.WORLD_FILE,
    lacks=clip.no_world,
)
