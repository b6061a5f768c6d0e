"""The rule of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ddit_eval.ddit.policies.base import (
    CoarseScale,
    Order,
    PolicyBase,
    Positive,
    Real,
    Scale,
    Share,
    Whole,
    fired,
)
from ddit_eval.ddit.policies.search import (
    ORDER,
    RHO,
    Axis,
    Params,
    Space,
    Unit,
    choice,
    listed,
    number,
    scales_of,
)
from ddit_eval.ddit.policies.step import StepView
from ddit_eval.ddit.trace import StepTrace


class Threshold(PolicyBase):
    """The DDiT rule: the coarsest scale whose signal is below `tau` (arXiv 2602.16968).

    A coarse step kicks the velocity and so inflates the next `order` differences; the bare rule then
    falls back to fine and coarsens again once the kick has left the window, a limit cycle of order + 1
    steps. Four remedies, all off by default:

    dwell       keep a scale for at least so many steps once it is chosen
    hysteresis  while coarse, leave a scale only above tau * hysteresis
    measure     "fine" reads the signal only where the last `order` steps were fine; a coarse scale is
                then held for `max_run` steps (None: `order`), followed by `order` fine steps to read again
    max_run     at most so many coarse steps in a row
    """

    family: ClassVar[str] = "DDiT"
    colour: ClassVar[str] = "#0072B2"
    axes: ClassVar[tuple[Axis, ...] | None] = (
        ORDER,
        RHO,
        number("tau_relative", lambda s: s.tau, lambda s: math.sqrt(s.tau[0] * s.tau[1]), log=True),
        choice("scales", lambda s: [listed(of) for of in s.scales], lambda s: listed(max(s.scales, key=sum))),
        choice("warmup", lambda s: s.warmup, lambda s: s.warmup[0]),
        Axis(lambda trial, s: trial.suggest_int("dwell", *s.dwell), lambda s: {"dwell": s.dwell[0]}),
        number("hysteresis", lambda s: s.hysteresis, lambda s: s.hysteresis[0]),
    )

    kind: Literal["threshold"] = "threshold"
    tau: Annotated[Real, Field(gt=0)]
    rho: Share = 0.4
    order: Order = 3
    scales: Annotated[tuple[CoarseScale, ...], Field(min_length=1)] = (2, 4)
    warmup_scale: Scale = 1
    dwell: Positive = 1
    hysteresis: Annotated[Real, Field(ge=1)] = 1.0
    measure: Literal["all", "fine"] = "all"
    warmup_steps: Whole | None = None  # at least so many; None: while there is no signal
    final_fine: Whole = 0  # so many steps at the end are fine
    max_run: Positive | None = None

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        return {*space.coarse_scales, *space.warmup}

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Threshold:
        return cls(
            tau=params["tau_relative"] * unit(params["order"]),
            rho=params["rho"],
            order=params["order"],
            scales=scales_of(params["scales"]),
            warmup_scale=params["warmup"],
            dwell=params["dwell"],
            hysteresis=params["hysteresis"],
        )

    def resolved(self) -> dict[str, float]:
        return {"tau": self.tau}

    def verdict(self, traces: Sequence[Sequence[StepTrace]]) -> str | None:
        free = [
            p
            for trace in traces
            for p in trace
            if p.signals is not None
            and p.index >= (self.warmup_steps or 0)
            and p.index < len(trace) - self.final_fine
        ]
        if not free:
            return f"tau = {self.tau:g} never came into play: no step had a signal of order {self.order}"
        return fired(f"tau = {self.tau:g}", free, "measured ")

    def decide(self, view: StepView) -> int:
        if view.among_last(self.final_fine):
            return 1
        if view.signals is None or view.index < (self.warmup_steps or 0):
            return self.warmup_scale
        # What was chosen without a signal is no choice to be kept.
        chosen = [p for p in view.past if p.signals is not None and p.index >= (self.warmup_steps or 0)]
        last = chosen[-1].scale if chosen else 1
        coarse_run = _run_length(chosen, lambda p: p.scale > 1)
        limit = self.max_run
        if self.measure == "fine":
            limit = self.max_run or self.order
        if limit is not None and coarse_run >= limit:
            return 1
        if self.measure == "fine" and last > 1:
            return last
        if self.measure == "fine" and any(p.scale > 1 for p in view.past[-self.order :]):
            return 1
        if chosen and _run_length(chosen, lambda p: p.scale == last) < self.dwell:
            return last
        for scale in sorted(self.scales, reverse=True):
            # Staying is easier than going coarse: scales up to the present one get the wider limit.
            tau = self.tau * self.hysteresis if scale <= last else self.tau
            if view.signals[scale] < tau:
                return scale
        return 1


def _run_length(past: Sequence[StepTrace], holds: Callable[[StepTrace], bool]) -> int:
    """How many of the newest steps `holds` is true of, without a gap."""
    return sum(1 for _ in takewhile(holds, reversed(past)))
