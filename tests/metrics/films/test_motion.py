"""Flicker, optical flow, smoothness and dynamic degree: by hand and on known motion."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import RAFT
from ddit_eval.metrics.films import dynamics, flow, smoothness
from ddit_eval.metrics.films.flicker import temporal_flickering
from ddit_eval.metrics.films.frames import Film, film_of
from tests.support.films import drive, filmed, flat, noise, scene, sliding

# Temporal flickering.


@pytest.mark.parametrize(
    ("levels", "value"),
    [
        ([0.3] * 5, 1.0),
        ([0, 1, 0, 1], 0.0),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 0.9),  # a fade
        ([0.0, 0.5, 0.5], 0.75),  # the mean over pairs
    ],
)
def test_flickering_by_hand(levels: list[float], value: float) -> None:
    assert temporal_flickering(flat(levels)) == pytest.approx(value, abs=1e-7)


def test_flickering_agrees_with_vbench_on_bytes() -> None:
    frames = (noise(5, 3, 16, 24) * 255).byte()
    ints = frames.numpy().astype(np.int64)
    pairs = [np.abs(ints[t + 1] - ints[t]).mean() for t in range(4)]
    golden = (255.0 - np.mean(pairs)) / 255.0
    assert metrics.get("temporal_flickering").value(film_of(frames)) == pytest.approx(golden, abs=1e-6)


def test_flickering_of_a_shift_is_the_mean_slope() -> None:
    frames = sliding(4)
    row = frames.double().numpy()
    slopes = [np.abs(row[0, :, :, k + 1] - row[0, :, :, k]).mean() for k in range(63)]
    assert temporal_flickering(frames[:2]) == pytest.approx(1 - np.mean(slopes), abs=5e-3)
    assert temporal_flickering(frames) < 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_flickering_is_the_same_backwards_and_mirrored(seed: int) -> None:
    frames = noise(4, 3, 6, 5, seed=seed)
    value = temporal_flickering(frames)
    assert temporal_flickering(frames.flip(0)) == pytest.approx(value)
    assert temporal_flickering(frames.flip(-1)) == pytest.approx(value)


# Flow.


@pytest.mark.parametrize("by", [1, 3])
def test_flow_of_a_shift(by: int) -> None:
    frames = sliding(2, by)
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion[0] - by).abs().max() < 0.1
    assert motion[1].abs().max() < 0.1


def test_flow_down_is_the_second_component() -> None:
    frames = sliding(2, 2).transpose(-1, -2)
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion[1] - 2).abs().max() < 0.1
    assert motion[0].abs().max() < 0.1


def test_flow_of_frames_of_odd_sides() -> None:
    frames = sliding(2, 2)[..., :45, :51]
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion - torch.tensor([2.0, 0.0]).view(2, 1, 1)).abs().max() < 0.1
    with pytest.raises(DditError, match="one shape"):
        flow.flow(frames[:1], frames)
    with pytest.raises(DditError, match="divide bytes"):
        flow.flow(frames[:1].byte(), frames[1:].byte())


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_flow_of_exchanged_and_of_mirrored_frames(seed: int) -> None:
    frames = sliding(2, 2, side=32, seed=seed)
    forth = flow.flow(frames[:1], frames[1:])
    torch.testing.assert_close(flow.flow(frames[1:], frames[:1]), -forth)
    mirrored = flow.flow(frames[:1].flip(-1), frames[1:].flip(-1)).flip(-1)
    torch.testing.assert_close(
        mirrored, forth * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), atol=1e-3, rtol=0
    )


def test_what_only_changes_its_light_does_not_move() -> None:
    picture = filmed([scene()] * 2).frames[:1]
    assert float(flow.flow(picture, picture).abs().max()) == 0.0
    assert float(flow.flow(picture, 0.9 * picture).abs().mean()) < 0.02
    grain = (picture + 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    assert float(flow.flow(picture, grain).abs().mean()) < 0.02


def test_the_middle_frame_of_a_moving_thing() -> None:
    film = drive(2.0, count=3).frames
    error = (flow.middle(film[:1], film[2:]) - film[1]).abs().mean()
    blend = ((film[:1] + film[2:]) / 2 - film[1]).abs().mean()
    assert error < 0.25 * blend


def test_flow_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = sliding(4, 2)
    together = flow.flow(frames[:-1], frames[1:])
    monkeypatch.setattr(flow, "PIXELS", 2 * 64 * 64)
    torch.testing.assert_close(flow.flow(frames[:-1], frames[1:]), together, atol=1e-4, rtol=1e-4)
    singly = torch.cat([flow.flow(frames[t : t + 1], frames[t + 1 : t + 2]) for t in range(3)])
    torch.testing.assert_close(together, singly, atol=1e-4, rtol=1e-4)


# Motion smoothness.


@pytest.mark.parametrize(
    ("levels", "value"),
    [
        ([0.4] * 4, 1.0),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 1.0),  # a fade is perfectly predictable
        ([0.5, 0.7, 0.5, 0.7, 0.5], 0.8),
        ([0.5, 0.7, 0.5, 0.1], 0.8),  # the last frame has none behind it
        ([0.0, 1.0, 0.0], 0.0),
    ],
)
def test_smoothness_by_hand(levels: list[float], value: float) -> None:
    film = film_of(flat(levels))
    assert smoothness.motion_smoothness(film.frames, lambda a, b: (a + b) / 2) == pytest.approx(
        value, abs=1e-6
    )
    assert metrics.get("motion_smoothness-classical").value(film) == pytest.approx(value, abs=1e-5)


def test_smooth_motion_beats_shuffled_motion_and_frozen_frames_beat_both() -> None:
    measure = metrics.get("motion_smoothness-classical").value
    film = drive(2.0)
    shuffled = film_of(film.frames[[3, 6, 0, 5, 1, 7, 2, 4]])
    frozen = film_of(film.frames[:1].repeat(8, 1, 1, 1))
    assert measure(frozen) == pytest.approx(1, abs=1e-6)
    assert 0.997 < measure(film) < measure(frozen)
    assert 1 - measure(shuffled) > 5 * (1 - measure(film))


def test_smoothness_needs_three_frames_and_a_fitting_interpolator() -> None:
    with pytest.raises(DditError, match="3 frames"):
        metrics.get("motion_smoothness-classical").value(film_of(flat([0, 1])))
    with pytest.raises(DditError, match="are due"):
        smoothness.motion_smoothness(flat([0, 1, 0]), lambda a, b: a[..., :8])


# Dynamic degree.


def constant_flow(lengths: list[float]) -> dynamics.Flow:
    def give(first: Tensor, second: Tensor) -> Tensor:
        count, _, height, width = first.shape
        return torch.tensor(lengths[:count]).view(-1, 1, 1, 1).expand(-1, 2, height, width) / math.sqrt(2)

    return give


def test_speed_is_the_mean_of_the_fastest_twentieth() -> None:
    motion = torch.zeros(1, 2, 10, 20)
    motion[0, 0, 0, :10], motion[0, 1, 0, :10] = 3.0, 4.0  # 10 of 200 pixels, length 5
    motion[0, 0, 1, :2] = 20.0
    fastest = (2 * 20 + 8 * 5) / 10
    got = dynamics.speeds(torch.zeros(2, 3, 10, 20), lambda a, b: motion)
    assert got.tolist() == pytest.approx([fastest])


@pytest.mark.parametrize(
    ("frames", "fast", "dynamic"),
    [
        (16, 3, 0.0),
        (16, 4, 1.0),
        (8, 1, 0.0),
        (8, 2, 1.0),
        (3, 0, 0.0),
        (3, 1, 1.0),
        (10, 1, 0.0),
        (10, 2, 1.0),
        (11, 2, 0.0),
        (11, 3, 1.0),
        (2, 0, 0.0),
        (2, 1, 1.0),
    ],
)
def test_a_quarter_of_the_pairs_must_be_fast(frames: int, fast: int, dynamic: float) -> None:
    # The threshold at 256 px is 6 px; a pair just at it is not fast.
    lengths = [6.01] * fast + [5.99] * (frames - 1 - fast)
    film = torch.zeros(frames, 3, 256, 300)
    assert dynamics.dynamic_degree(film, constant_flow(lengths)) == dynamic


def test_frames_are_taken_at_eight_a_second() -> None:
    film = torch.arange(24.0).view(-1, 1, 1, 1)
    assert dynamics.thinned(film, 24).flatten().tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert (
        len(dynamics.thinned(film, 8))
        == len(dynamics.thinned(film, 4))
        == len(dynamics.thinned(film, None))
        == 24
    )
    assert len(dynamics.thinned(film, 12.1)) == 12  # round(1.51) is 2
    with pytest.raises(DditError, match="longer film"):
        dynamics.dynamic_degree(torch.zeros(3, 3, 8, 8), constant_flow([1.0]), fps=60)


def test_classical_dynamic_degree_sees_motion_and_nothing_else() -> None:
    measure = metrics.get("dynamic_degree-classical").value
    assert measure(drive(3.0)) == 1.0  # the threshold at 64 px is 1.5 px
    assert measure(drive(0.4)) == 0.0
    still = drive(0.0)
    assert measure(still) == 0.0
    fading = film_of(still.frames * torch.linspace(1, 0.6, 8).view(-1, 1, 1, 1))
    assert measure(fading) == 0.0
    assert measure(Film(drive(0.4, count=32).frames, fps=48)) == 1.0  # every sixth frame, 2.4 px apart


def test_raft_is_given_what_it_was_trained_on() -> None:
    seen: dict[str, Any] = {}

    def network(a: Tensor, b: Tensor, num_flow_updates: int) -> list[Tensor]:
        seen.update(shape=tuple(a.shape), low=float(a.min()), high=float(a.max()), steps=num_flow_updates)
        return [torch.zeros(len(a), 2, *a.shape[-2:]), torch.ones(len(a), 2, *a.shape[-2:])]

    frames = noise(6, 3, 130, 136)
    got = dynamics.raft(frames[:-1], frames[1:], network)  # type: ignore[arg-type]
    assert seen == {
        "shape": (1, 3, 136, 136),
        "low": pytest.approx(-1, abs=1e-3),
        "high": pytest.approx(1, abs=1e-3),
        "steps": 20,
    }
    assert got.shape == (5, 2, 136, 136)
    assert bool((got == 1).all())  # the last refinement
    with pytest.raises(DditError, match="128 px"):
        dynamics.raft(noise(1, 3, 64, 64), noise(1, 3, 64, 64), network)  # type: ignore[arg-type]


def test_raft_runs_from_a_file_of_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    untrained = dataclasses.replace(RAFT, file="raft.pth", sha256=None)
    monkeypatch.setattr(dynamics, "RAFT", untrained)
    monkeypatch.setattr(dynamics, "RAFT_STEPS", 2)
    (tmp_path / "checkpoints").mkdir()
    network = raft_large(weights=None).eval()
    torch.save(network.state_dict(), untrained.path())
    dynamics._raft.cache_clear()
    frames = noise(2, 3, 128, 128)
    try:
        got = dynamics.raft(frames[:1], frames[1:])
    finally:
        dynamics._raft.cache_clear()
    with torch.no_grad():
        golden = network(2 * frames[:1] - 1, 2 * frames[1:] - 1, num_flow_updates=2)[-1]
    torch.testing.assert_close(got, golden)
