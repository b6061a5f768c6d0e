"""Motion smoothness: can every other frame be predicted from its neighbours?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.films.flow import middle
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import MARGIN, NETWORKS, VBENCH, FilmMetric, name_of
from ddit_eval.metrics.metric import unavailable

# Frames (N, 3, H, W) before and after, in [0, 1], to the frames half-way between them.
Interpolate: TypeAlias = Callable[[Tensor, Tensor], Tensor]

SOURCE = f"{VBENCH}: 1 - mean absolute error of odd frames, interpolated from the even ones at t = 1/2"


@torch.no_grad()
def motion_smoothness(frames: Tensor, interpolate: Interpolate) -> float:
    """1 - mean |x - x_hat| over the odd frames that lie between two even ones: (T, 3, H, W) to [0, 1].

    T is at least 3; with an even T the last frame has no neighbour behind it and does not count.
    """
    if len(frames) < 3:
        raise DditError(f"motion smoothness needs 3 frames, two and one between them, not {len(frames)}")
    even, odd = frames[::2], frames[1::2][: (len(frames) - 1) // 2]
    guess = interpolate(even[:-1], even[1:])
    if guess.shape != odd.shape:
        raise DditError(f"the interpolator gave frames {tuple(guess.shape)} where {tuple(odd.shape)} are due")
    return 1 - float((odd.double() - guess.double()).abs().mean())


def motion_smoothness_metric(interpolate: Interpolate, network: str, label: str | None = None) -> FilmMetric:
    """The metric with an interpolator of your own; `network` says which, `label` names the stand-in."""

    def measure(film: Film, prompt: str) -> float:
        return motion_smoothness(film.frames, interpolate)

    name = name_of("motion_smoothness", network, label)
    return FilmMetric(name, measure, SOURCE, network, least=3, margin=MARGIN)


_FILES = "amt-s.pth (12 MB, no published hash)"
_MISSING = (
    f"motion_smoothness: AMT-S, {_FILES}, has no packaged implementation to load "
    "it; pass an interpolator to `motion_smoothness_metric(interpolate, network='AMT-S')` and register it, "
    "or measure `motion_smoothness-classical`"
)
METRIC = replace(
    motion_smoothness_metric(unavailable(_MISSING), str(NETWORKS["motion_smoothness"])),
    files=_FILES,
    lacks=lambda: _MISSING,
)
CLASSICAL = replace(
    motion_smoothness_metric(middle, "none: symmetric pyramidal Lucas-Kanade and warping", "classical"),
    note="a stand-in for AMT-S; not comparable with published motion smoothness",
)
