"""Filling a harm table: the base's trajectory once, then every coarse step alone, from the base's latents.

A row starts from the latents that the base had at its step, with the pipeline's own `latents` and `sigmas`,
so that what came before is not computed again. Schedules are forced, so prompts share a batch. Each row is
a file: killed at any moment, the next call goes on, and one row is lost at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddit_eval.ddit import sampling
from ddit_eval.ddit.call import accepted
from ddit_eval.ddit.policies import Base, Explicit
from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.ddit.policies import Policy
    from ddit_eval.experiment.generate import Generator
    from ddit_eval.experiment.records import Job

ORDERS = (1, 2, 3)
SAME = 1e-10  # mean squared error of pictures that are the same but for rounding
Pictures = NDArray[np.float32]  # (N, F, H, W, 3) in [0, 1]; of pictures F = 1


@dataclass(frozen=True)
class Trajectory:
    """The base's run of a batch: what the transformer was given at each step, and the pictures."""

    latents: list[Tensor]
    pictures: Pictures


def draw(generator: Generator, jobs: Sequence[Job], policy: Policy, **changes: Any) -> Pictures:
    """Pictures of `jobs` in one batch under `policy`; `changes` to the pipeline's call. Nothing is kept."""
    return sampling.draw(generator.handle, generator.request(jobs, policy), **changes).pixels


def mean_squared_error(pictures: Pictures, reference: Pictures) -> list[float]:
    """One value a picture, in float64; 0 up to `SAME`, as rounding differs with the size of a batch."""
    error = (pictures.astype(np.float64) - reference) ** 2
    return [float(v) if v > SAME else 0.0 for v in error.reshape(len(error), -1).mean(1)]


def trajectory(generator: Generator, jobs: Sequence[Job]) -> Trajectory:
    """Run the base on `jobs` and keep its latents by step."""
    handle = generator.handle
    latents: list[Tensor] = []

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = handle.bindings[0].family.read(module, args, kwargs).handed
        if not latents or latents[-1] is not given:  # guidance calls twice with the same
            latents.append(given.detach())

    hook = handle.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        pictures = draw(generator, jobs, Base())
    finally:
        hook.remove()
    if len(latents) != jobs[0].steps:
        raise DditError(
            f"the pipeline made {len(latents)} steps where {jobs[0].steps} were asked for; harm is measured "
            "with first-order schedulers only"
        )
    return Trajectory(latents, pictures)


def restart(
    generator: Generator, jobs: Sequence[Job], base: Trajectory, step: int, scales: Sequence[int]
) -> Pictures:
    """Pictures of the base's run with its last steps, from `step` on, at `scales`."""
    missing = {"latents", "sigmas"} - accepted(generator.pipe)
    if missing:
        raise DditError(
            f"{type(generator.pipe).__name__} takes no {' and no '.join(sorted(missing))}, and so cannot "
            "start in mid-run; measure harm on a pipeline that does, such as FluxPipeline"
        )
    total = len(base.latents)
    # The pipeline's own default, cut off: shifts act on each value alone.
    sigmas = np.linspace(1.0, 1 / total, total)[step:]
    return draw(
        generator,
        jobs,
        Explicit(scales=tuple(scales)),
        latents=base.latents[step],
        sigmas=sigmas,
        num_inference_steps=total - step,
    )


def signals_of(generator: Generator, base: Trajectory, height: int, width: int, rho: float) -> dict[int, Any]:
    """The signals that a policy would have seen along the base's run: by order, [prompt][step][scale].

    None at steps whose history is too short. The adapter's own scales.
    """
    import torch

    from ddit_eval.ddit.schedule import finite_difference, signals
    from ddit_eval.models.flops import grid_of

    adapter = generator.handle.adapter
    assert adapter is not None
    grid, scales = grid_of(generator.pipe, height, width), adapter.scales
    path = torch.stack([z[..., : adapter.config.out_channels] for z in base.latents])
    found: dict[int, Any] = {}
    for order in ORDERS:
        rows: list[Any] = [[[None] * len(scales)] * path.shape[1] for _ in range(min(order, len(path)))]
        for t in range(order, len(path)):
            rows.append(signals(finite_difference(path[: t + 1], order), grid, scales, rho).tolist())
        found[order] = [list(prompt) for prompt in zip(*rows, strict=True)]
    return found
