"""frontier.json: at each speed-up that was asked for the best way to reach it, and what it loses."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, NonNegativeInt, model_validator

from ddit_eval.schema.measured import Measured, Stage
from ddit_eval.schema.model import Count, Interval, Json, Positive, Ratio, Result
from ddit_eval.schema.timing import Machine


class Way(Result):
    """A way to run the model faster.

    `row`: as it stands in an experiment's YAML. `coarse`: whether a step has coarse patches. `speedup`:
    measured on this machine, None where the clock decided nothing; `flop_ratio` is above 1 where it is
    cheaper than the base. `tuned`, `quality`: each metric on the prompts it was picked on, and on held-out
    ones; `difference`: the latter less the base's, paired.
    """

    name: str
    of: Measured
    row: Json
    coarse: bool
    speedup: Ratio | None
    flop_ratio: Positive
    tuned: dict[str, Interval]
    quality: dict[str, Interval]
    difference: dict[str, Interval]


class Target(Result):
    """A speed-up that was asked for. `best_ddit`: of those by the published rule. `gain`: `best` less
    `best_without_coarse`, paired over held-out prompts. `note`: why something is not there."""

    speed_up: Positive
    best: Way | None
    best_without_coarse: Way | None
    best_ddit: Way | None
    gain: dict[str, Interval] = Field(default_factory=dict)
    note: str | None = None


class Frontier(Stage):
    """frontier.json. `metric`: the one that was searched by. `trials`: of each search by name; those with and
    without coarse patches have equally many. `clock`: None, or why speed-ups are FLOP ratios here."""

    made_by: ClassVar[str] = "`ddit-eval advise EXPERIMENT`"
    file: ClassVar[str] = "frontier.json"
    decided_by: ClassVar[tuple[str, ...]] = (
        "profile", "model", "adapter", "steps", "prompts", "reference", "advise",
    )  # fmt: skip

    profile: str
    model: str
    machine: Machine
    metric: str
    tuning: Count
    heldout: Count
    trials: dict[str, NonNegativeInt]
    targets: tuple[Target, ...]
    clock: str | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        asked = [target.speed_up for target in self.targets]
        if asked != sorted(set(asked)):
            raise ValueError(f"the speed-ups {asked} are not ascending")
        return self
