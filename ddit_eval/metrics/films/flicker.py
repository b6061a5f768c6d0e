"""Temporal flickering: how little a pixel changes from frame to frame. Exact, without a network."""

from __future__ import annotations

from torch import Tensor

from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import VBENCH, FilmMetric


def temporal_flickering(frames: Tensor) -> float:
    """1 - mean |x[t + 1] - x[t]| over all pixels and pairs: (T, 3, H, W) in [0, 1] to [0, 1].

    VBench's formula on 0..255 divides by 255 at the end, which is the same. 1: nothing changes.
    """
    return 1 - float(frames.double().diff(dim=0).abs().mean())


def _measure(film: Film, prompt: str) -> float:
    return temporal_flickering(film.frames)


METRIC = FilmMetric(
    "temporal_flickering",
    _measure,
    source=f"{VBENCH}: 1 - mean absolute difference of neighbouring frames, float64",
    network=None,
    note="motion counts as flicker: VBench keeps to prompts of still scenes for it",
)
