"""quality.json: what the samples of each method are worth, and what has to be known beside the numbers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, model_validator

from ddit_eval.errors import DditError
from ddit_eval.schema.measured import Measured, Stage, repeated
from ddit_eval.schema.model import (
    Count,
    Direction,
    Interval,
    Json,
    Number,
    Positive,
    Result,
    Share,
)


class Row(Result):
    """A method. The ratios are above 1 where it is cheaper than the base, whose `difference` is paired.

    `family`, `colour`, `control`: of its policy, see `ddit_eval.ddit.policies`. `scale_share`: of the steps.
    """

    method: str
    of: Measured
    policy: Json
    steps: Count
    n: Count
    family: str
    colour: str
    control: str | None
    token_ratio: Positive
    flop_ratio: Positive
    scale_share: dict[NonNegativeInt, Share]
    verdict: str | None
    quality: dict[str, Interval]
    difference: dict[str, Interval]

    @property
    def coarse_share(self) -> float:
        """Share of the steps that ran coarser than the base."""
        return float(sum(share for scale, share in self.scale_share.items() if scale > 1))

    @property
    def skipped_share(self) -> float:
        """Share of the steps that ran no transformer."""
        return self.scale_share.get(0, 0.0)


class Column(Result):
    """What a reader of a metric's numbers must know; the facts of `ddit_eval.metrics.metric.Column`."""

    direction: Direction
    range: tuple[Number | None, Number | None]
    network: str | None
    source: str
    n_note: str | None = None
    weights: str | dict[str, Any] | None = None
    files: str | None = None
    title: str
    unit: str
    digits: Annotated[int, Field(ge=0, le=20)]
    role: Literal["fidelity", "adherence", "score", "description"]
    rank: int
    margin: Positive | None


Sight = Literal["seen", "blind", "fooled", "not asked"]


class Sighting(Result):
    """What a damage does to a metric: its mean without and with it, and the paired loss (above 0: worse)."""

    metric: str
    damage: str
    before: Number
    after: Number
    loss: Interval
    sight: Sight


class Distance(Result):
    """A distance of a set of pictures to a reference set, with all that its number depends on.

    `interval`: over samples of the set, the reference fixed; see `metrics.sets.resample` for what it does not
    cover (the bias in n above all). `minus`: the set that was subtracted, in a paired difference.
    """

    metric: str
    network: str
    direction: Direction
    interval: Interval
    n: Count
    n_reference: Count
    pictures: str
    pictures_hash: str
    reference: str
    reference_hash: str
    minus: str | None = None
    minus_hash: str | None = None
    preset: str
    source: str
    warnings: tuple[str, ...] = ()


class SetRow(Distance):
    """That of a method's pictures; `difference`: to the base's."""

    method: str
    difference: Interval | None = None


class Quality(Stage):
    """quality.json. `reference`: the base's name; `reference_hash`: of its pictures; `skipped`: set metrics
    that could not be measured, with the reason; `files`: the SHA-256 of what was written with it."""

    made_by: ClassVar[str] = "`ddit-eval evaluate EXPERIMENT`"
    file: ClassVar[str] = "quality.json"
    decided_by: ClassVar[tuple[str, ...]] = ("profile", "model", "adapter", "reference", "metrics", "sets")

    profile: str
    model: str
    adapter: str | None
    n: Count
    prompts_hash: str
    reference: str
    reference_hash: str
    rows: tuple[Row, ...]
    metrics: dict[str, Column]
    damage: tuple[Sighting, ...] = ()
    sets: tuple[SetRow, ...] = ()
    skipped: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rows_are_of_the_head(self) -> Quality:
        methods = [row.method for row in self.rows]
        if twice := repeated(methods):
            raise ValueError(f"the row {twice[0]!r} is there twice")
        if self.reference not in methods:
            raise ValueError(f"the reference {self.reference!r} is no row")
        for row in self.rows:
            head = (self.n, self.prompts_hash, row.of.policy, row.of.steps)
            if (row.n, row.of.prompts, row.policy, row.steps) != head:
                raise ValueError(f"row {row.method!r} is not of the prompts, policy or steps that are said")
        return self

    def row(self, method: str) -> Row:
        """The row of a method; raises `DditError` where there is none."""
        for row in self.rows:
            if row.method == method:
                return row
        raise DditError(f"quality.json has no method {method!r}; make it anew: {self.made_by}")
