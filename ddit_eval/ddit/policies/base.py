"""What every policy is: frozen data, whose `decide` is a pure function of what the step can see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

Scale: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
CoarseScale: TypeAlias = Annotated[int, Field(ge=2, strict=True)]
Order: TypeAlias = Annotated[int, Field(ge=1, le=8)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class StepView:
    """What a policy may look at before a step.

    `signals` maps candidate scales to the percentile of the patch deviations (largest over the batch);
    None while the history is shorter than `order + 1` latents. `past` is the trace so far, oldest first.
    """

    index: int
    total: int
    signals: Mapping[int, float] | None = None
    past: Sequence[StepTrace] = field(default=())
    seed: int | None = None


class PolicyBase(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, *args: Any, **data: Any) -> None:
        names = [n for n in type(self).model_fields if n != "kind"]
        if len(args) > len(names):
            raise DditError(
                f"{type(self).__name__} takes {len(names)} values ({', '.join(names)}), got {len(args)}"
            )
        try:
            super().__init__(**dict(zip(names, args, strict=False)), **data)
        except ValidationError as error:
            raise DditError(explain(type(self).__name__, error)) from None


def explain(what: str, error: ValidationError) -> str:
    """What pydantic found, in one line that names the values."""
    parts = []
    for e in error.errors():
        where = ".".join(str(part) for part in e["loc"])
        # What is wrong with the whole names its own value.
        value = "" if e["type"] == "missing" or not where else f" (got {e['input']!r})"
        message = e["msg"].removeprefix("Value error, ") + value
        parts.append(f"{where}: {message}" if where else message)
    return f"{what}: " + "; ".join(parts)
