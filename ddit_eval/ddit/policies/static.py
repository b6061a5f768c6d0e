"""Policies that read no signal: the controls that DDiT's rule has to beat."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ddit_eval.ddit.policies.base import PolicyBase, Scale, StepView
from ddit_eval.errors import DditError


class Static(PolicyBase):
    """A policy that reads no signal."""

    @property
    def order(self) -> int:
        """Order of the finite difference that the policy reads; 0 if it reads none."""
        return 0

    @property
    def rho(self) -> float:
        """Percentile over patches; without meaning where no signal is read."""
        return 0.0


class Base(Static):
    """Always the base patch size."""

    kind: Literal["base"] = "base"

    @property
    def scales(self) -> tuple[int, ...]:
        return (1,)

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


class CoarseFirst(Static):
    """The first `steps` steps at `scale`, the rest fine: FlexiDiT's static schedule (arXiv 2502.20126)."""

    kind: Literal["coarse-first"] = "coarse-first"
    steps: Annotated[int, Field(ge=0)]
    scale: Scale = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (1, self.scale)

    def decide(self, view: StepView) -> int:
        return self.scale if view.index < self.steps else 1


class FineFirst(Static):
    """The first `steps` steps fine, the rest at `scale`."""

    kind: Literal["fine-first"] = "fine-first"
    steps: Annotated[int, Field(ge=0)]
    scale: Scale = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (1, self.scale)

    def decide(self, view: StepView) -> int:
        return 1 if view.index < self.steps else self.scale


class Explicit(Static):
    """One scale per step, as listed."""

    kind: Literal["explicit"] = "explicit"
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)]

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

    kind: Literal["random"] = "random"
    mix: Annotated[dict[Scale, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    seed: int = 0

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
