"""Several patch sizes in one step, by region; the paper leaves it to future work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

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
from ddit_eval.ddit.policies.search import ORDER, Axis, Params, Space, Unit, choice, listed, number, scales_of
from ddit_eval.ddit.policies.step import Step, StepView
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.ddit.layout import Grid, Layout


def _nested(scales: Sequence[int]) -> bool:
    """Whether the scales divide each other, which a budget needs."""
    return not any(b % a for a, b in pairwise(sorted(scales)))


def _sets(space: Space) -> list[str]:
    return [listed(scales) for scales in space.scales if _nested(scales)]


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

    family: ClassVar[str] = "region"
    colour: ClassVar[str] = "#E69F00"
    mixed: ClassVar[bool] = True
    axes: ClassVar[tuple[Axis, ...] | None] = (
        ORDER,
        choice("region_scales", _sets, lambda s: next(iter(_sets(s)[::-1]), "")),
        number("budget", lambda s: s.budget, lambda s: sum(s.budget) / 2),
        choice("window", lambda s: s.window, lambda s: 3 if 3 in s.window else s.window[0]),
    )

    kind: Literal["region"] = "region"
    tau: Annotated[Real, Field(gt=0)] = 0.05
    budget: Annotated[Share, Field(gt=0)] | None = None
    scales: Annotated[tuple[CoarseScale, ...], Field(min_length=1)] = (2, 4)
    window: Positive = 3
    order: Order = 3
    hysteresis: Annotated[Real, Field(ge=1)] = 1.0
    warmup_scale: Scale = 1
    final_fine: Whole = 0

    @model_validator(mode="after")
    def _divides(self) -> Region:
        if self.budget is not None and not _nested(self.scales):
            raise ValueError(f"a budget needs scales that divide each other, got {sorted(self.scales)}")
        return self

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        if not _sets(space):
            raise DditError(
                f"study: `region` needs scales that divide each other, and there are {list(space.scales)}; "
                "add [2, 4]"
            )
        return set(space.coarse_scales)

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Region:
        return cls(
            budget=params["budget"],
            scales=scales_of(params["region_scales"]),
            window=params["window"],
            order=params["order"],
        )

    def verdict(self, traces: Sequence[Sequence[StepTrace]]) -> str | None:
        if self.budget is not None:
            return None
        # A step of several sizes is counted as its coarsest; what the last steps must be is no choice.
        measured = [p for trace in traces for p in trace[: len(trace) - self.final_fine] if p.signals]
        return fired(f"tau = {self.tau:g}", measured, "measured ") if measured else None

    @property
    def rho(self) -> float:
        """Percentile of the map that the trace shows; nothing is decided by it."""
        return 0.5

    def decide(self, view: StepView) -> int:
        """The scale of a step that has no map."""
        return 1 if view.among_last(self.final_fine) else self.warmup_scale

    def deviations(self, difference: Tensor, grid: Grid, times: Mapping[int, int]) -> Tensor:
        """(B, F, H, W) the local variance."""
        from ddit_eval.ddit.regions import local_variance  # torch, which reading a YAML spares

        return local_variance(difference, grid, self.window)

    def signals(self, measured: Tensor) -> dict[int, float]:
        from ddit_eval.ddit.schedule import percentile

        return dict.fromkeys(self.scales, percentile(measured.flatten()[None], self.rho)[0].item())

    def allowed(self, view: StepView, variance: Tensor, before: Tensor | None) -> Tensor | None:
        """The coarsest scale by base token (F, H, W); None where `decide` has the whole step.

        variance (F, H, W) on the host, `before` the scales of the last step of the same run.
        """
        from ddit_eval.ddit.regions import scale_map, spend

        if view.among_last(self.final_fine):
            return None
        if self.budget is not None:
            return spend(variance, self.budget, self.scales)
        return scale_map(variance, self.tau, self.scales, before, self.hysteresis)

    def layout(self, step: Step) -> Layout | None:
        from ddit_eval.ddit.regions import sizes

        before, last = None, step.before
        if self.hysteresis > 1 and last is not None and step.view.past[-1].sizes is not None:
            before = sizes(last)[step.given :]
        allowed = None if step.measured is None else self.allowed(step.view, step.measured, before)
        if allowed is None:
            return super().layout(step)
        layout = step.tile_map(allowed, self.scales)
        return None if layout.is_base else layout
