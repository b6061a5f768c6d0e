"""Several patch sizes in one step, by region; the paper leaves it to future work."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from ddit_eval.ddit.policies.base import CoarseScale, Order, PolicyBase, Scale, Share, StepView

if TYPE_CHECKING:
    from torch import Tensor


class Region(PolicyBase):
    """Coarse patches where the n-th difference varies little, fine ones where it varies much.

    tau     a base token allows the coarsest scale where the local variance of |difference| is below tau, the
            next one below 2 tau, and so on
    budget  instead of tau: this share of the base tokens, spent where the variance is highest; the number
            of tokens is then the same in every step and picture
    window  side of the square of base tokens that the variance is taken over

    A patch needs the leave of all its base tokens. Over a batch the largest variance counts: one tiling
    serves all. While there is no signal, and in the last `final_fine` steps, the whole step has one scale.
    """

    kind: Literal["region"] = "region"
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    budget: Annotated[Share, Field(gt=0)] | None = None
    scales: Annotated[tuple[CoarseScale, ...], Field(min_length=1)] = (2, 4)
    window: Annotated[int, Field(ge=1)] = 3
    order: Order = 3
    hysteresis: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    warmup_scale: Scale = 1
    final_fine: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _nested(self) -> Region:
        ordered = sorted(self.scales)
        if self.budget is not None and any(b % a for a, b in pairwise(ordered)):
            raise ValueError(f"a budget needs scales that divide each other, got {ordered}")
        return self

    @property
    def rho(self) -> float:
        """Percentile of the map that the trace shows; nothing is decided by it."""
        return 0.5

    def decide(self, view: StepView) -> int:
        """The scale of a step that has no map."""
        return 1 if view.index >= view.total - self.final_fine else self.warmup_scale

    def allowed(self, view: StepView, variance: Tensor, before: Tensor | None) -> Tensor | None:
        """The coarsest scale by base token (F, H, W); None where `decide` has the whole step.

        variance (F, H, W) on the host, `before` the scales of the last step of the same run.
        """
        from ddit_eval.ddit.regions import scale_map, spend

        if view.index >= view.total - self.final_fine:
            return None
        if self.budget is not None:
            return spend(variance, self.budget, self.scales)
        return scale_map(variance, self.tau, self.scales, before, self.hysteresis)
