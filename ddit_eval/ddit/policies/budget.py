"""DDiT's signal with a cost that is known beforehand."""

from __future__ import annotations

from typing import ClassVar, Literal

from ddit_eval.ddit.policies.base import CoarseScale, Order, PolicyBase, Share, Whole
from ddit_eval.ddit.policies.search import ORDER, RHO, SCALE, SHARE, Axis, Params, Unit
from ddit_eval.ddit.policies.step import StepView


class Budget(PolicyBase):
    """Spend a fixed share of coarse steps where the signal is lowest; no threshold to tune.

    A running-quantile rule: with b coarse steps left to spend on r eligible steps, a step is coarse if
    its signal is among the lowest b / r of the signals seen so far in this run (its own included). The
    last b steps are coarse if the budget would lapse otherwise, so the cost is exact: round(coarse * steps)
    coarse steps, as far as the eligible steps (after the first `order`, before `final_fine`) allow.
    """

    family: ClassVar[str] = "budget"
    colour: ClassVar[str] = "#009E73"
    axes: ClassVar[tuple[Axis, ...] | None] = (ORDER, RHO, SHARE, SCALE)

    kind: Literal["budget"] = "budget"
    coarse: Share = 0.5
    scale: CoarseScale = 2
    rho: Share = 0.4
    order: Order = 3
    final_fine: Whole = 0

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,)

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Budget:
        return cls(coarse=params["share"], scale=params["scale"], rho=params["rho"], order=params["order"])

    def decide(self, view: StepView) -> int:
        spent = sum(p.scale > 1 for p in view.past)
        left = round(self.coarse * view.total) - spent
        eligible = view.total - self.final_fine - view.index
        if view.signals is None or left <= 0 or eligible <= 0:
            return 1
        if left >= eligible:
            return self.scale
        signal = view.signals[self.scale]
        seen = [p.signals[self.scale] for p in view.past if p.signals is not None]
        rank = sum(value < signal for value in seen) / (len(seen) + 1)
        return self.scale if rank < left / eligible else 1
