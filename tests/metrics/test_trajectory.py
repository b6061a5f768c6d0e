"""Latents and velocities by step: errors by hand, and recorded from a pipeline."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.metrics.trajectory import (
    Trajectory,
    latent_error,
    record,
    relative_error,
    velocities,
    velocity_error,
)


def test_errors_by_hand() -> None:
    theirs = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]])
    ours = torch.tensor([[[3.0, 4.5], [1.0, 0.0]], [[0.0, -2.0], [0.0, 1.0]]])
    assert relative_error(ours, theirs).tolist() == [[0.1, 0.0], [2.0, math.inf]]
    assert relative_error(theirs, theirs).tolist() == [[0.0, 0.0]] * 2
    same = relative_error(ours.view(2, 2, 1, 2, 1), theirs.view(2, 2, 1, 2, 1))
    torch.testing.assert_close(same, relative_error(ours, theirs))


def test_velocities_of_euler_steps_are_the_model_s() -> None:
    sigmas = torch.tensor([1.0, 0.7, 0.3, 0.0])
    said = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    x, latents = torch.zeros(2, 5), []
    for velocity, step in zip(said, sigmas.diff(), strict=True):
        x = x + step * velocity
        latents.append(x)
    torch.testing.assert_close(velocities(torch.stack(latents), sigmas).float(), said[1:])


def test_runs_that_do_not_pair_are_refused() -> None:
    with pytest.raises(DditError, match="same steps, size and prompts"):
        relative_error(torch.zeros(3, 2, 4), torch.zeros(2, 2, 4))
    with pytest.raises(DditError, match="at least 2 steps"):
        velocities(torch.zeros(1, 2, 4), torch.zeros(2))
    one = Trajectory(torch.zeros(2, 1, 3), torch.tensor([9.0, 5.0]))
    other = Trajectory(torch.zeros(2, 1, 3), torch.tensor([9.0, 4.0]))
    with pytest.raises(DditError, match="no steps in common"):
        latent_error(one, other)
    with pytest.raises(DditError, match="noise levels"):
        velocity_error(one, one)


def test_recorded_from_a_pipeline(tiny: Any) -> None:
    from ddit_eval import attach, load_pipeline
    from ddit_eval.ddit import policies

    pipe = load_pipeline(tiny.model)
    pipe.set_progress_bar_config(disable=True)

    def run(seed: int) -> Trajectory:
        noise = [torch.Generator("cpu").manual_seed(seed + i) for i in range(2)]
        call = {"prompt": ["a red star"] * 2, "height": 32, "width": 32, "num_inference_steps": 4}
        return record(pipe, {**call, "generator": noise, "max_sequence_length": 16})

    plain = run(0)
    assert plain.latents.shape[:2] == (4, 2)
    assert plain.sigmas is not None
    assert float(latent_error(run(0), plain).max()) == 0.0
    assert float(latent_error(run(7), plain).min()) > 0.1
    handle = attach(pipe, adapter=tiny.adapter, policy=policies.CoarseFirst(2, 2))
    try:
        coarse = run(0)
    finally:
        handle.detach()
    error, velocity = latent_error(coarse, plain), velocity_error(coarse, plain)
    assert error.shape == (4, 2)
    assert velocity.shape == (3, 2)
    assert bool((error > 0).all())
    handle = attach(pipe, adapter=tiny.adapter, policy=policies.FineFirst(2, 2))
    try:
        late = latent_error(run(0), plain)
    finally:
        handle.detach()
    assert float(late[:2].max()) == 0.0  # the same until the first coarse step
    assert float(late[2:].min()) > 0.0
    with pytest.raises(DditError, match="leave yours out"):
        record(pipe, {"prompt": "a", "callback_on_step_end": print})
