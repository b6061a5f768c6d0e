"""A metric and a policy for ddit_eval, from outside."""

from typing import ClassVar, Literal

from ddit_eval.ddit.policies import Static, StepView
from ddit_eval.ddit.policies.search import SCALE, Axis
from ddit_eval.metrics.metric import Column, Metric

BRIGHTNESS = Metric(
    name="brightness",
    columns=(Column("brightness", "higher", 0, 1, title="mean brightness"),),
    needs="pictures",
    measure=lambda pictures, reference, prompts: {"brightness": pictures.mean((1, 2, 3)).tolist()},
    source="the mean of all values",
)


class EveryOther(Static):
    """Every other step coarse; a study searches at which scale."""

    family: ClassVar[str] = "every other step"
    colour: ClassVar[str] = "#aa3377"
    axes: ClassVar[tuple[Axis, ...] | None] = (SCALE,)

    kind: Literal["every-other"] = "every-other"
    scale: int = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,)

    def decide(self, view: StepView) -> int:
        return self.scale if view.index % 2 else 1
