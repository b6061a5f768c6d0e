"""Which steps of a run are computed, on which patches, and which are skipped: so many as a budget allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["early", "between", "late"]
PLACES: tuple[Place, ...] = ("early", "between", "late")


@dataclass(frozen=True)
class Prices:
    """What a step costs by its scale, 0 for one that is skipped, and what every step costs besides; in
    seconds, or any unit."""

    scales: Mapping[int, float]
    beside: float = 0.0

    def of(self, scales: Sequence[int]) -> float:
        """The cost of a run of these steps."""
        return sum(self.scales[scale] + self.beside for scale in scales)


@dataclass(frozen=True)
class Shape:
    """How computed steps lie in a run.

    density: of all steps the share that is computed, in (0, 1]; 1 skips none, which is a run of fewer steps.
    bend: above 1 they lie closer together in the beginning, below 1 in the end. scale: of the coarse ones,
    which are `share` of the computed ones and stand among these at `place`.
    """

    density: float
    bend: float = 1.0
    scale: int = 1
    share: float = 0.0
    place: Place = "early"


def fit(shape: Shape, budget: float, prices: Prices, most: int) -> tuple[int, ...] | None:
    """The scales of the steps of the longest such run of at most `most` steps that costs no more than
    `budget`, denser than asked for where skipped steps alone are too dear; None where not even one step
    fits."""
    for computed in range(most, 0, -1):
        steps = min(most, max(computed, round(computed / shape.density)))
        coarse = min(computed, max(1, round(shape.share * computed))) if shape.share else 0
        kinds = _kinds(computed, coarse, shape.scale, shape.place)
        scales = [0] * steps
        for place, scale in zip(_places(computed, steps, shape.bend), kinds, strict=True):
            scales[place] = scale
        if prices.of(scales) <= budget:
            return tuple(scales)
    return None if shape.density == 1 else fit(replace(shape, density=1.0), budget, prices, most)


def _places(computed: int, steps: int, bend: float) -> list[int]:
    """Where the computed steps lie: the first at 0, all different."""
    found: list[int] = []
    for i in range(computed):
        wanted = int(steps * (i / computed) ** bend)
        found.append(min(max(wanted, found[-1] + 1 if found else 0), steps - computed + i))
    return found


def _kinds(computed: int, coarse: int, scale: int, place: Place) -> list[int]:
    """The scales of the computed steps in order."""
    if place == "between":
        there = {int((i + 0.5) * computed / coarse) for i in range(coarse)} if coarse else set()
    else:
        there = {*range(coarse)} if place == "early" else {*range(computed - coarse, computed)}
    return [scale if i in there else 1 for i in range(computed)]
