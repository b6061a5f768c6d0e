"""Dynamic degree: does anything move in a film?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import RAFT
from ddit_eval.metrics.films.flow import flow
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import NETWORKS, VBENCH, FilmMetric, name_of

# Frames (N, 3, H, W), (N, 3, H, W) in [0, 1] to displacements (N, 2, H, W) in px.
Flow: TypeAlias = Callable[[Tensor, Tensor], Tensor]

RATE = 8  # frames a second that flow is measured at
FASTEST = 0.05  # share of the pixels that a pair's speed is the mean of
SPEED = 6 / 256  # of the shorter side, from one frame to the next
RAFT_STEPS, RAFT_LEAST = 20, 128  # refinements; px below which its coarsest level is empty
SOURCE = (
    f"{VBENCH}: a film is dynamic if in at least round(T / 4) pairs the fastest 5 % of the pixels move by "
    "more than 6/256 of the shorter side; frames taken at about 8 a second"
)


def thinned(frames: Tensor, fps: float | None) -> Tensor:
    """Every n-th frame, n = max(1, round(fps / 8)); all of them where the rate is unknown."""
    return frames if fps is None else frames[:: max(1, round(fps / RATE))]


@torch.no_grad()
def speeds(frames: Tensor, flow: Flow) -> Tensor:
    """The speed of each pair of neighbours, mean length of its 5 % longest displacements: (T - 1,), px."""
    motion = flow(frames[:-1], frames[1:])
    if motion.ndim != 4 or motion.shape[:2] != (len(frames) - 1, 2):
        raise DditError(f"the flow gave {tuple(motion.shape)} where ({len(frames) - 1}, 2, H, W) is due")
    lengths = motion.double().norm(dim=1).flatten(1)
    count = int(FASTEST * lengths.shape[1])
    if not count:
        raise DditError(
            f"frames of {tuple(frames.shape[-2:])} px have no 5 % of pixels; give at least 20 pixels"
        )
    return lengths.topk(count, dim=1).values.mean(1)


def is_dynamic(speed: Tensor, side: int) -> bool:
    """Whether enough pairs are fast: speeds (T - 1,) in px, `side` the shorter side in px.

    T frames need round(4 T / 16) fast pairs, a half rounded to even; at least one, where VBench would
    call any film of two frames dynamic.
    """
    fast = int((speed > SPEED * side).sum())
    return fast >= max(1, round(4 * (len(speed) + 1) / 16))


def dynamic_degree(frames: Tensor, flow: Flow, fps: float | None = None) -> float:
    """1 if the film moves, else 0: (T, 3, H, W) in [0, 1]. The mean over films is VBench's figure."""
    chosen = thinned(frames, fps)
    if len(chosen) < 2:
        raise DditError(
            f"dynamic degree takes about {RATE} frames a second, and 1 is left of {len(frames)} at {fps} a "
            "second; give a longer film"
        )
    return float(is_dynamic(speeds(chosen, flow), min(frames.shape[-2:])))


def dynamic_degree_metric(flow: Flow, network: str, label: str | None = None) -> FilmMetric:
    """The metric with an optical flow of your own; `network` says which, `label` names the stand-in."""

    def measure(film: Film, prompt: str) -> float:
        return dynamic_degree(film.frames, flow, film.fps)

    name = name_of("dynamic_degree", network, label)
    return FilmMetric(name, measure, SOURCE, network)


@lru_cache(maxsize=1)
def _raft() -> nn.Module:
    from torchvision.models.optical_flow import raft_large

    network: nn.Module = raft_large(weights=None)
    network.load_state_dict(RAFT.load())
    return network.eval().requires_grad_(False)


def raft(first: Tensor, second: Tensor, network: nn.Module | None = None, chunk: int = 4) -> Tensor:
    """RAFT's flow (Teed and Deng 2020, arXiv 2003.12039), 20 refinements, the Chairs and Things weights.

    Frames are padded to multiples of 8 by repeating their edges, as VBench does, and the flow of the
    padded frames is returned. Below 128 px RAFT is not defined.
    """
    height, width = first.shape[-2:]
    if min(height, width) < RAFT_LEAST:
        raise DditError(
            f"RAFT needs frames of {RAFT_LEAST} px at least, not {height} x {width}; enlarge them, or "
            "measure `dynamic_degree-classical`"
        )
    network = network or _raft().to(first.device)
    high, wide = -height % 8, -width % 8
    edges = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
    first, second = (F.pad(2 * x.float() - 1, edges, mode="replicate") for x in (first, second))
    pairs = zip(first.split(chunk), second.split(chunk), strict=True)
    return torch.cat([network(a, b, num_flow_updates=RAFT_STEPS)[-1] for a, b in pairs])


METRIC = replace(dynamic_degree_metric(raft, str(NETWORKS["dynamic_degree"])), checkpoints=(RAFT,))
CLASSICAL = replace(
    dynamic_degree_metric(flow, "none: symmetric pyramidal Lucas-Kanade", "classical"),
    note="a stand-in for RAFT; not comparable with published dynamic degree",
)
