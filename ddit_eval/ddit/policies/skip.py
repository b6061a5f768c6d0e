"""Policies that leave out steps: the strongest rival that needs no adapter, and a plan that mixes it with
coarse steps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ddit_eval.ddit.policies.base import CoarseScale, Forecast, Gain, Positive, Whole, check_forecast
from ddit_eval.ddit.policies.search import FORECAST, SCALE, Axis, Params, Space, Unit, choice, number, whole
from ddit_eval.ddit.policies.static import Static
from ddit_eval.ddit.policies.step import StepView

_REGULAR = (whole("every", lambda s: s.every, 3), whole("first", lambda s: s.first, 1))
_LAST = whole("last", lambda s: s.last, 0)


class _Regular(Static):
    """Every so-many-th step fine.

    every     of the last of the `first` steps and those after it, every so-many-th is fine
    first     so many steps at the front are fine
    last      so many at the end are fine
    forecast  a skipped step has the last velocity (0), or continues the line through the last two (1)
    gain      the forecast's slope is multiplied by it
    """

    every: Positive
    first: Positive = 1
    last: Whole = 0
    forecast: Forecast = 0
    gain: Gain = 1.0

    def _fine(self, view: StepView, before: int = 0) -> bool:
        """Whether a step is fine; `before` so many steps, the plan has not begun."""
        place = view.index - before - (self.first - 1)
        return place <= 0 or place % self.every == 0 or view.among_last(self.last)


class Skip(_Regular):
    """Keeps or forecasts the velocity between fine steps; needs no adapter."""

    family: ClassVar[str] = "skipped steps"
    colour: ClassVar[str] = "#332288"
    control: ClassVar[str | None] = "skipped steps"
    axes: ClassVar[tuple[Axis, ...] | None] = (*_REGULAR, _LAST, FORECAST)

    kind: Literal["skip"] = "skip"

    @model_validator(mode="after")
    def _means_something(self) -> Skip:
        check_forecast(self.forecast, self.gain, True)
        return self

    @property
    def scales(self) -> tuple[int, ...]:
        return (1,) if self.every == 1 else (0, 1)

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        return set()

    def decide(self, view: StepView) -> int:
        return 1 if self._fine(view) else 0


class Mixed(_Regular):
    """`coarse` steps at `scale`, then every so-many-th step fine and those between skipped or coarse, too.

    `first` counts from the end of the coarse steps; `last` goes before all else.
    """

    family: ClassVar[str] = "mixed plan"
    colour: ClassVar[str] = "#661100"
    axes: ClassVar[tuple[Axis, ...] | None] = (
        *_REGULAR,
        _LAST,
        number("head", lambda s: s.head, lambda s: sum(s.head) / 2),
        SCALE,
        choice("between", lambda s: (0, *s.coarse_scales), lambda s: 0),
        FORECAST,
    )

    kind: Literal["mixed"] = "mixed"
    coarse: Whole = 0
    scale: CoarseScale = 2
    between: Annotated[int, Field(ge=0, strict=True)] = 0

    @field_validator("between")
    @classmethod
    def _not_fine(cls, between: int) -> int:
        if between == 1:
            raise ValueError("1 would make every step fine; give 0, which skips, or a coarse scale")
        return between

    @model_validator(mode="after")
    def _means_something(self) -> Mixed:
        check_forecast(self.forecast, self.gain, self.between == 0)
        return self

    @property
    def scales(self) -> tuple[int, ...]:
        coarse = {self.scale} if self.coarse else set()
        return tuple(sorted({1, *coarse} | ({self.between} if self.every > 1 else set())))

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Mixed:
        """At least one step is coarse, which is all that sets it apart from `Skip`."""
        skips = params["between"] == 0
        forecast: Forecast = params["forecast"] if skips else 0
        return cls(
            **{name: params[name] for name in ("every", "first", "last", "scale", "between")},
            coarse=max(round(params["head"] * steps), int(skips)),
            forecast=forecast,
            gain=params["gain"] if forecast else 1.0,
        )

    def decide(self, view: StepView) -> int:
        if view.index < self.coarse:
            return 1 if view.among_last(self.last) else self.scale
        return 1 if self._fine(view, self.coarse) else self.between
