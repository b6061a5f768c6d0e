"""Another solver of diffusers for flow models, another time schedule, or both, for the calls of one row.

What a pipeline asks its scheduler for (a number of steps, its own sigmas, a shift by size), it asks of its
own scheduler underneath, and the solver goes through the noise levels of that one, shifted or replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import torch

from ddit_eval.errors import DditError
from ddit_eval.rivals.row import Scheduler

SOLVERS: dict[str, Any] = {
    "euler": diffusers.FlowMatchEulerDiscreteScheduler,
    "heun": diffusers.FlowMatchHeunDiscreteScheduler,
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
}
KINDS = ("own", *SOLVERS)
_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "final_sigmas_type": "zero"}
_CONFIG: dict[str, dict[str, Any]] = {
    "dpmpp-2m": _FLOW | {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"},
    "unipc": _FLOW,
}
_TOP = 1 - 1e-6  # log(1 - sigma) has to be finite, see UniPCMultistepScheduler.set_timesteps


def why_not(kind: type, config: Any) -> str | None:
    """Why the models of a scheduler of diffusers cannot be solved by another one."""
    flow = kind.__name__.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"
    if not flow or config.get("invert_sigmas"):
        return (
            f"its model is one of noise, not of a flow ({kind.__name__}, prediction_type "
            f"{config.get('prediction_type')!r}), and these solvers are for flows"
        )
    return None


def another(own: Any, asked: Scheduler) -> Any:
    """The scheduler that `asked` describes, over the noise levels of the pipeline's `own`.

    Raises `DditError` for a model of another kind than a flow.
    """
    if why := why_not(type(own), own.config):
        raise DditError(f"scheduler {asked.kind} cannot run here: {why}")
    kind = type(own) if asked.kind == "own" else SOLVERS[asked.kind]
    changes = {} if isinstance(own, kind) else _CONFIG.get(asked.kind, {})
    if asked.kind == "unipc":
        changes = changes | {"solver_order": asked.order or (2 if changes else own.config.solver_order)}
    made = _following(kind).from_config({**own.config, **changes})
    made.own, made.asked = copy.deepcopy(own), asked
    return made


@contextmanager
def solved(pipe: Any, asked: Scheduler) -> Iterator[None]:
    """Another scheduler in `pipe` while the context is open."""
    own = pipe.scheduler
    pipe.scheduler = another(own, asked)
    try:
        yield
    finally:
        pipe.scheduler = own


def _following(kind: Any) -> Any:
    """A solver whose times are those of another scheduler."""

    class Following(kind):
        own: Any
        asked: Scheduler

        def set_timesteps(
            self,
            num_inference_steps: int | None = None,
            device: Any = None,
            sigmas: Any = None,
            mu: float | None = None,
        ) -> None:
            if mu is not None and sigmas is None and num_inference_steps:
                # FluxPipeline drops its sigmas where a solver has `use_flow_sigmas`.
                sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
            given = {"sigmas": sigmas, "mu": mu}
            if sigmas is None:
                given["num_inference_steps"] = num_inference_steps
            self.own.set_timesteps(device=device, **{k: v for k, v in given.items() if v is not None})
            levels, times = self.own.sigmas, self.own.timesteps
            if self.asked.shift or self.asked.sigmas:
                levels = _levels(levels, self.asked)
                times = (levels[:-1] * self.own.config.num_train_timesteps).to(times)
            _restart(self, levels, times)

    Following.__name__ = Following.__qualname__ = kind.__name__  # by which diffusers knows a configuration
    return Following


def _levels(own: torch.Tensor, asked: Scheduler) -> torch.Tensor:
    """The noise levels asked for, (n + 1), the last as the pipeline's own has it."""
    if asked.sigmas is None:
        assert asked.shift
        return asked.shift * own / (1 + (asked.shift - 1) * own)
    if len(asked.sigmas) != len(own) - 1:
        raise DditError(f"sigmas: {len(asked.sigmas)} are given for {len(own) - 1} steps; give one a step")
    return torch.cat([torch.tensor(asked.sigmas).to(own), own[-1:]])


def _restart(solver: Any, levels: torch.Tensor, times: torch.Tensor) -> None:
    """Put a solver before its first step, with these noise levels (n + 1) and timesteps (n)."""
    solver.num_inference_steps = len(times)
    solver._step_index = solver._begin_index = None
    if hasattr(solver, "lower_order_nums"):  # several steps: kept model outputs
        levels = levels.to("cpu", copy=True)
        levels[0] = min(float(levels[0]), _TOP)
        solver.model_outputs = [None] * solver.config.solver_order
        solver.lower_order_nums, solver.last_sample = 0, None
    elif not isinstance(solver, type(solver.own)):
        times = times.float()  # whole numbers are refused by the solvers of flows
    if isinstance(solver, SOLVERS["heun"]):  # each level but the first is come to twice
        solver.prev_derivative = solver.dt = solver.sample = None
        levels = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
    solver.sigmas, solver.timesteps = levels, times
