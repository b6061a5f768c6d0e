"""How far an accelerated run strays from the base model's, step by step, from the same noise.

    theirs = record(pipe, call(seed=0))                     # the plain pipeline
    handle.policy = policies.Threshold(tau=1e-2)
    ours = record(pipe, call(seed=0))                       # a new generator of the same seed
    latent_error(ours, theirs), velocity_error(ours, theirs)

Functions take trajectories (T, N, ...): step, sample, and the latent's own dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column

SOURCE = "|ours - theirs| / |theirs|, Euclidean, by step and sample, float64, from the same noise"
ERRORS = (Column("latent-error", "lower", 0.0, None), Column("velocity-error", "lower", 0.0, None))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """`latents` float32 (T, N, ...) after each step, on the CPU; `timesteps` (T,) of the steps; `sigmas`
    (T + 1,), the noise levels before, between and after them (None: the scheduler has none)."""

    latents: Tensor
    timesteps: Tensor
    sigmas: Tensor | None = None


def relative_error(ours: Tensor, theirs: Tensor) -> Tensor:
    """|ours - theirs| / |theirs|, Euclidean, by step and sample: (T, N, ...) twice to (T, N), float64.

    0 / 0 is 0; a difference from nothing is infinite.
    """
    if ours.shape != theirs.shape or ours.ndim < 3:
        raise DditError(
            f"trajectories are compared step by step, (T, N, ...) each: {tuple(ours.shape)} against "
            f"{tuple(theirs.shape)}; record both with the same steps, size and prompts"
        )
    ours, theirs = ours.double(), theirs.double()
    error = (ours - theirs).flatten(2).norm(dim=2)
    return torch.where(error == 0, 0.0, error / theirs.flatten(2).norm(dim=2))


def velocities(latents: Tensor, sigmas: Tensor) -> Tensor:
    """The mean velocity of each step but the first: (T, N, ...), (T + 1,) to (T - 1, N, ...), float64.

    (x[t] - x[t - 1]) / (sigma[t + 1] - sigma[t]): for an Euler step of a flow, what the model said.
    """
    if len(latents) < 2 or len(sigmas) != len(latents) + 1:
        raise DditError(
            f"velocities need at least 2 steps and one noise level more than steps: {len(latents)} latents, "
            f"{len(sigmas)} levels"
        )
    steps = sigmas.double().diff()[1:]
    return latents.double().diff(dim=0) / steps.view(-1, *[1] * (latents.ndim - 1))


def latent_error(ours: Trajectory, theirs: Trajectory) -> Tensor:
    """Relative error of the latents after each step: (T, N), float64."""
    _same_steps(ours, theirs)
    return relative_error(ours.latents, theirs.latents)


def velocity_error(ours: Trajectory, theirs: Trajectory) -> Tensor:
    """Relative error of the velocities, from the second step on: (T - 1, N), float64.

    Both runs are taken at their own latents, so that what went wrong before shows as well.
    """
    _same_steps(ours, theirs)
    if ours.sigmas is None or theirs.sigmas is None:
        raise DditError("velocities need the scheduler's noise levels (sigmas), and it has none")
    return relative_error(velocities(ours.latents, ours.sigmas), velocities(theirs.latents, theirs.sigmas))


def record(pipe: Any, call: Mapping[str, Any]) -> Trajectory:
    """Latents of `pipe(**call)` by step, through the pipeline's own callback; nothing is decoded.

    Give each run a new generator of the same seed, or a tensor of latents: generators are used up.
    """
    steps: list[Tensor] = []
    timesteps: list[float] = []

    def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(tensors["latents"].detach().float().cpu().clone())
        timesteps.append(float(timestep))
        return tensors

    if "callback_on_step_end" in call:
        raise DditError("the recorder is the pipeline's callback_on_step_end: leave yours out of the call")
    pipe(
        **{**call, "output_type": "latent"},
        callback_on_step_end=keep,
        callback_on_step_end_tensor_inputs=["latents"],
    )
    if not steps:
        raise DditError("the pipeline ended without a step: ask for at least one inference step")
    sigmas = getattr(pipe.scheduler, "sigmas", None)
    if sigmas is not None:
        sigmas = sigmas.detach().float().cpu().clone() if len(sigmas) == len(steps) + 1 else None
    return Trajectory(torch.stack(steps), torch.tensor(timesteps), sigmas)


def _same_steps(ours: Trajectory, theirs: Trajectory) -> None:
    if ours.timesteps.shape != theirs.timesteps.shape or not torch.allclose(ours.timesteps, theirs.timesteps):
        raise DditError(
            f"trajectories of {len(ours.timesteps)} and {len(theirs.timesteps)} steps, or of other times, "
            "have no steps in common: run both with the same scheduler and number of steps"
        )
