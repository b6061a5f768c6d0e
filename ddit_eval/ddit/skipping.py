"""Skipped steps: what a transformer is taken to have said, and a way around calling it.

A call that is left out gives what it gave at the last computed step j, or a forecast of order 1 from the last
two, j and k: v_j + gain (v_j - v_k) (t - t_j) / (t_j - t_k). Keeping is what a cache of order 0 does to the
whole transformer, the forecast is TaylorSeer's of order 1 (arXiv 2503.06923) with a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddit_eval.ddit.output import velocity_of, with_velocity


@dataclass(frozen=True)
class Which:
    """A call of a step: its place there, and all that must be equal for another to stand for it."""

    ordinal: int
    context: str | None  # the guidance context, where the pipeline names one
    like: Hashable  # shape, dtype and device of the latents, and how the output is returned


@dataclass(frozen=True)
class _Kept:
    step: int
    timestep: float
    output: Any
    before: tuple[float, Tensor] | None  # timestep and velocity of the computed step before


class Memory:
    """What one transformer gave at the last computed steps of a run, by call. Copies: compiled code may use
    an output's memory again, and a pipeline may write into it."""

    def __init__(self) -> None:
        self._kept: dict[Which, _Kept] = {}
        self._step = -1  # the last one that was computed

    def has(self, which: Which) -> bool:
        """Whether that call was made at the last computed step."""
        return which in self._kept and self._kept[which].step == self._step

    def keep(self, which: Which, step: int, timestep: float, output: Any, gain: float) -> None:
        """A call was computed. gain: of the forecasts to come; 0 where there are none."""
        last, before = self._kept.get(which), None
        if gain and last is not None:
            before = (last.timestep, velocity_of(last.output))
        kept = with_velocity(output, velocity_of(output).detach().clone())
        self._kept[which], self._step = _Kept(step, timestep, kept, before), step

    def output(self, which: Which, timestep: float, gain: float) -> Any:
        """What to say for that call at a step that is skipped."""
        kept = self._kept[which]
        velocity = velocity_of(kept.output)
        if gain and kept.before is not None and kept.before[0] != kept.timestep:
            earlier, old = kept.before
            stride = (timestep - kept.timestep) / (kept.timestep - earlier)
            return with_velocity(kept.output, velocity + gain * stride * (velocity - old))
        return with_velocity(kept.output, velocity.clone())


Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def detour(module: nn.Module, around: Around) -> Callable[[], None]:
    """Have every call of `module` made by `around(call, args, kwargs)`; returns the way back.

    torch's hooks cannot leave out `forward`, and those of accelerate and diffusers exchange it, and take each
    other off in any order. So it is left alone, and what `Module.__call__` goes through is exchanged: the
    call as it is written, and the compiled one where there is one. Where something has been put on top, the
    way back leaves it there, and what is below it does no more than call on.
    """
    active, placed = True, {}

    def via(call: Callable[..., Any]) -> Callable[..., Any]:
        @torch.compiler.disable(recursive=False)
        def made(*args: Any, **kwargs: Any) -> Any:
            return around(call, args, kwargs) if active else call(*args, **kwargs)

        return made

    for name in ("_call_impl", "_compiled_call_impl"):
        call = getattr(module, name)
        if call is not None:
            placed[name] = (name in vars(module), call, via(call))
            vars(module)[name] = placed[name][2]

    def remove() -> None:
        nonlocal active
        active = False
        for name, (own, call, made) in placed.items():
            if vars(module).get(name) is made:
                del vars(module)[name]
                if own:
                    vars(module)[name] = call

    return remove
