"""Policies that read no signal: the controls that DDiT's rule has to beat."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ddit_eval.ddit.policies.base import Forecast, Gain, PolicyBase, Real, Scale, Whole, check_forecast
from ddit_eval.ddit.policies.search import SCALE, SHARE, Axis, Params, Space, Unit
from ddit_eval.ddit.policies.step import StepView
from ddit_eval.errors import DditError


class Static(PolicyBase):
    """A policy that reads no signal."""

    family: ClassVar[str] = "static coarse"
    colour: ClassVar[str] = "#56B4E9"

    @property
    def order(self) -> int:
        """Order of the finite difference that the policy reads; 0 if it reads none."""
        return 0

    @property
    def rho(self) -> float:
        """Percentile over patches; without meaning where no signal is read."""
        return 0.0


class Base(Static):
    """Always the base patch size. A study searches the number of steps alone, from the fewest on."""

    family: ClassVar[str] = "base"
    colour: ClassVar[str] = "#000000"
    axes: ClassVar[tuple[Axis, ...] | None] = (
        Axis(lambda trial, space: None, lambda space: {"steps": min(space.steps)}),
    )

    kind: Literal["base"] = "base"

    @property
    def scales(self) -> tuple[int, ...]:
        return (1,)

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        return set()

    def decide(self, view: StepView) -> int:
        return 1


class Fixed(Static):
    """Always the same scale."""

    kind: Literal["fixed"] = "fixed"
    scale: Scale

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,)

    def decide(self, view: StepView) -> int:
        return self.scale


class _TwoParts(Static):
    """One scale for the first `steps` steps, another for the rest."""

    axes: ClassVar[tuple[Axis, ...] | None] = (SHARE, SCALE)

    steps: Whole
    scale: Scale = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (1, self.scale)


class CoarseFirst(_TwoParts):
    """The first `steps` steps at `scale`, the rest fine: FlexiDiT's static schedule (arXiv 2502.20126)."""

    control: ClassVar[str | None] = "coarse-first"

    kind: Literal["coarse-first"] = "coarse-first"

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> CoarseFirst:
        return cls(steps=round(params["share"] * steps), scale=params["scale"])

    def decide(self, view: StepView) -> int:
        return self.scale if view.index < self.steps else 1


class FineFirst(_TwoParts):
    """The first `steps` steps fine, the rest at `scale`."""

    kind: Literal["fine-first"] = "fine-first"

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> FineFirst:
        return cls(steps=steps - round(params["share"] * steps), scale=params["scale"])

    def decide(self, view: StepView) -> int:
        return 1 if view.index < self.steps else self.scale


class Explicit(Static):
    """One scale per step, as listed, 0 to skip it (`Skip` says what it then gives). A study searches
    `segments` equal parts of the run, none of them skipped."""

    axes: ClassVar[tuple[Axis, ...] | None] = (
        Axis(
            lambda trial, space: [
                trial.suggest_categorical(f"segment_{i}", (1, *space.coarse_scales))
                for i in range(space.segments)
            ],
            lambda space: {
                f"segment_{i}": space.coarse_scales[0] if 2 * i >= space.segments else 1
                for i in range(space.segments)
            },
        ),
    )

    kind: Literal["explicit"] = "explicit"
    scales: Annotated[tuple[Whole, ...], Field(min_length=1)]
    forecast: Forecast = 0
    gain: Gain = 1.0

    @model_validator(mode="after")
    def _means_something(self) -> Explicit:
        check_forecast(self.forecast, self.gain, 0 in self.scales)
        return self

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Explicit:
        parts = [params[f"segment_{i}"] for i in range(sum(name.startswith("segment_") for name in params))]
        return cls(scales=tuple(parts[i * len(parts) // steps] for i in range(steps)))

    def decide(self, view: StepView) -> int:
        if view.total != len(self.scales):
            raise DditError(
                f"Explicit lists {len(self.scales)} scales but the run has {view.total} steps; "
                "give one scale per step or change num_inference_steps"
            )
        return self.scales[view.index]


class Random(Static):
    """A random order of a given mix of scales: the control that costs the same as another policy.

    `mix` maps scales to shares or counts; each scale gets its exact share of the steps (largest remainder),
    in an order drawn from `seed` and, where the sample has one, the sample's own seed.
    """

    family: ClassVar[str] = "random"
    colour: ClassVar[str] = "#CC79A7"
    control: ClassVar[str | None] = "random"

    kind: Literal["random"] = "random"
    mix: Annotated[dict[Scale, Annotated[Real, Field(ge=0)]], Field(min_length=1)]
    seed: Annotated[int, Field(strict=True)] = 0

    @field_validator("mix", mode="before")
    @classmethod
    def _whole_keys(cls, mix: Any) -> Any:
        # JSON turns the keys into strings.
        if not isinstance(mix, Mapping):
            return mix
        return {int(k) if isinstance(k, str) and k.isdecimal() else k: v for k, v in mix.items()}

    @model_validator(mode="after")
    def _positive(self) -> Random:
        if not sum(self.mix.values()) > 0:
            raise ValueError(f"mix {self.mix} gives no scale any weight; make at least one positive")
        return self

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(sorted(s for s, weight in self.mix.items() if weight > 0))

    @property
    def per_sample(self) -> bool:
        return True

    def decide(self, view: StepView) -> int:
        counts = apportion(self.mix, view.total)
        sequence = [scale for scale in sorted(counts) for _ in range(counts[scale])]
        random.Random(f"{self.seed}/{view.seed}").shuffle(sequence)
        return sequence[view.index]


def apportion(mix: Mapping[int, float], total: int) -> dict[int, int]:
    """Whole steps per scale in proportion to `mix`, by largest remainder."""
    weight = sum(mix.values())
    exact = {scale: share / weight * total for scale, share in mix.items()}
    counts = {scale: int(value) for scale, value in exact.items()}
    short = total - sum(counts.values())
    for scale in sorted(exact, key=lambda s: (counts[s] - exact[s], s))[:short]:
        counts[scale] += 1
    return counts
