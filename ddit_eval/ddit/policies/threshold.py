"""The rule of the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Annotated, Literal

from pydantic import Field

from ddit_eval.ddit.policies.base import CoarseScale, Order, PolicyBase, Scale, Share, StepView
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

    kind: Literal["threshold"] = "threshold"
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    rho: Share = 0.4
    order: Order = 3
    scales: Annotated[tuple[CoarseScale, ...], Field(min_length=1)] = (2, 4)
    warmup_scale: Scale = 1
    dwell: Annotated[int, Field(ge=1)] = 1
    hysteresis: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    measure: Literal["all", "fine"] = "all"
    warmup_steps: Annotated[int, Field(ge=0)] | None = (
        None  # at least so many; None: while there is no signal
    )
    final_fine: Annotated[int, Field(ge=0)] = 0  # so many steps at the end are fine
    max_run: Annotated[int, Field(ge=1)] | None = None

    def decide(self, view: StepView) -> int:
        if view.index >= view.total - self.final_fine:
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
