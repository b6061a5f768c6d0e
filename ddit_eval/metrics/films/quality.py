"""Aesthetic and imaging quality: the mean of a network's opinion of each frame. Real networks only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import AESTHETIC, CLIP_L14, MUSIQ
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import MARGIN, NETWORKS, VBENCH, FilmMetric, name_of
from ddit_eval.metrics.pictures.aesthetic import aesthetic_opinion

# Frames (T, 3, H, W) in [0, 1] to opinions (T,), in the network's own unit.
Opinion: TypeAlias = Callable[[Tensor], Tensor]

LONGEST = 512  # px of the longer side that MUSIQ is given
WORST_TO_BEST = {"aesthetic_quality": 10.0, "imaging_quality": 100.0}  # ends of the networks' scales


def quality(frames: Tensor, opinion: Opinion, best: float) -> float:
    """The mean opinion of the frames over the end of its scale: (T, 3, H, W) in [0, 1] to about [0, 1]."""
    values = opinion(frames)
    if values.shape != (len(frames),):
        raise DditError(f"one opinion a frame is needed, ({len(frames)},), not {tuple(values.shape)}")
    return float(values.double().mean() / best)


def at_most(frames: Tensor, longest: int = LONGEST) -> Tensor:
    """Frames whose longer side is at most `longest` px: bilinear, no antialias, rounded down (VBench)."""
    from torchvision.transforms.v2.functional import resize

    height, width = frames.shape[-2:]
    if max(height, width) <= longest:
        return frames
    scale = longest / max(height, width)
    return resize(frames, [int(scale * height), int(scale * width)], antialias=False)


def quality_metric(dimension: str, opinion: Opinion, network: str, label: str | None = None) -> FilmMetric:
    """aesthetic_quality (opinions up to 10) or imaging_quality (up to 100) with a network of your own."""

    @torch.no_grad()
    def measure(film: Film, prompt: str) -> float:
        return quality(film.frames, opinion, WORST_TO_BEST[dimension])

    source = f"{VBENCH}: mean opinion of the frames / {WORST_TO_BEST[dimension]:.0f}"
    name = name_of(dimension, network, label)
    return FilmMetric(name, measure, source, network, margin=MARGIN)


@lru_cache(maxsize=1)
def _musiq() -> Any:
    from pyiqa.archs.musiq_arch import MUSIQ as Network

    network = Network(pretrained=False)
    state: dict[str, Any] = MUSIQ.load()
    network.load_state_dict(state.get("params", state))
    return network.eval().requires_grad_(False)


def _imaging(frames: Tensor) -> Tensor:
    network = _musiq().to(frames.device)
    return torch.cat([network(frame[None]).reshape(1) for frame in at_most(frames)])


def _no_pyiqa() -> str | None:
    if find_spec("pyiqa") is None:
        return (
            "imaging_quality: MUSIQ needs the package pyiqa; `pip install pyiqa`, or leave the dimension out"
        )
    return None


AESTHETIC_QUALITY = replace(
    quality_metric("aesthetic_quality", aesthetic_opinion, str(NETWORKS["aesthetic_quality"])),
    checkpoints=(CLIP_L14, AESTHETIC),
)
IMAGING_QUALITY = replace(
    quality_metric("imaging_quality", _imaging, str(NETWORKS["imaging_quality"])),
    checkpoints=(MUSIQ,),
    lacks=_no_pyiqa,
)
