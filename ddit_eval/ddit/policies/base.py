"""What every policy is: frozen data, whose `decide` is a pure function of what the step can see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddit_eval.ddit.policies.search import Axis, Params, Space, Unit
from ddit_eval.ddit.policies.step import Step, StepView
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.system.settings import explain

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.ddit.layout import Grid, Layout

Scale: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
CoarseScale: TypeAlias = Annotated[int, Field(ge=2, strict=True)]
Order: TypeAlias = Annotated[int, Field(ge=1, le=8, strict=True)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)]
Whole: TypeAlias = Annotated[int, Field(ge=0, strict=True)]
Positive: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Real: TypeAlias = Annotated[float, Field(strict=True)]
# Of skipped steps: the order of what they are said to give, and what its slope is multiplied by.
Forecast: TypeAlias = Literal[0, 1]
Gain: TypeAlias = Annotated[float, Field(gt=0, strict=True)]


class Policy(Protocol):
    """What a policy must have. `PolicyBase` has all but `kind`, `order`, `rho`, `scales` and `decide`;
    `Static` has `order` and `rho` too.

        class EveryOther(Static):
            \"\"\"Every other step coarse.\"\"\"

            kind: Literal["every-other"] = "every-other"
            scales: tuple[int, ...] = (2,)

            def decide(self, view: StepView) -> int:
                return self.scales[0] if view.index % 2 else 1

    `attach` takes such an object as it is. Named as an entry point of the group `ddit_eval.policies`, under
    its kind, YAML, command line and study know it too; its constructor then takes what stands in the YAML.
    """

    family: ClassVar[str]  # of methods, as reports and figures name it
    colour: ClassVar[str]  # of the family in figures, as hex
    control: ClassVar[str | None]  # the kind of control that it is in comparisons at equal time, if one
    mixed: ClassVar[bool]  # whether a step may have patches of several sizes
    axes: ClassVar[tuple[Axis, ...] | None]  # what a study searches; None: it cannot be searched

    @property
    def kind(self) -> str:
        """Its name in YAML."""

    @property
    def order(self) -> int:
        """Order of the finite difference of the latents that it reads; 0 if it reads none."""

    @property
    def rho(self) -> float:
        """Percentile over patches that stands for a step; without meaning where no signal is read."""

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales that it may choose; a signal is measured for each. 0: it may skip steps, which then
        have the last velocity, or with a `forecast` of 1 one of order 1, its slope times `gain`."""

    @property
    def per_sample(self) -> bool:
        """Whether the schedule depends on the sample, so that samples must not share a batch."""

    def decide(self, view: StepView) -> int:
        """The scale of a step, 0 to skip it; pure."""

    def deviations(self, difference: Tensor, grid: Grid, times: Mapping[int, int]) -> Tensor:
        """(B, ...) what is measured of the difference of the latents (B, n, C) on its device, by sample.

        times: frames that a patch spans by scale, where that is not one. Over a batch of one schedule the
        largest counts.
        """

    def signals(self, measured: Tensor) -> dict[int, float]:
        """The values by scale that the trace notes of one of the rows of `deviations`, on the host."""

    def layout(self, step: Step) -> Layout | None:
        """The patches of a step; None for the base's."""

    def verdict(self, traces: Sequence[Sequence[StepTrace]]) -> str | None:
        """A sentence where its knob never or always fired over whole runs; else None."""

    def resolved(self) -> dict[str, float]:
        """What a study's relative parameters came to, to be noted with the trial."""

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        """The scales that a study over `space` may try; raises `DditError` where the space does not fit."""

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Policy:
        """The policy that a study's parameters mean in a run of `steps` steps.

        `unit(order)`: the signal that a relative tau of 1 stands for.
        """

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """Its values by name, `kind` among them; plain JSON in mode "json"."""


# What an object must have, and of it what a class has already.
NEEDED = tuple(name for name in (*Policy.__annotations__, *vars(Policy)) if not name.startswith("_"))
NEEDED_OF_CLASS = tuple(n for n in NEEDED if n not in ("kind", "order", "rho", "scales"))


def check(policy: Policy) -> None:
    """Raise `DditError` that names what `policy` lacks."""
    if missing := [name for name in NEEDED if not hasattr(policy, name)]:
        raise DditError(
            f"the policy {type(policy).__name__} lacks {', '.join(missing)}; derive it from "
            "ddit_eval.policies.Static, or where it reads a signal from PolicyBase, and add these"
        )
    if 0 in policy.scales and policy.per_sample:
        raise DditError(
            f"the policy {type(policy).__name__} may skip steps and decides by sample; only one that skips "
            "the same steps of every sample can"
        )


class PolicyBase(BaseModel):
    """Frozen values, checked, and the defaults of `Policy`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: ClassVar[str] = "other"
    colour: ClassVar[str] = "#9a9a9a"
    control: ClassVar[str | None] = None
    mixed: ClassVar[bool] = False
    axes: ClassVar[tuple[Axis, ...] | None] = None

    if TYPE_CHECKING:  # fields of some, properties of others

        @property
        def kind(self) -> str: ...
        @property
        def order(self) -> int: ...
        @property
        def rho(self) -> float: ...
        @property
        def scales(self) -> tuple[int, ...]: ...
        def decide(self, view: StepView) -> int: ...

    def __init__(self, *args: Any, **data: Any) -> None:
        names = [n for n in type(self).model_fields if n != "kind"]
        if len(args) > len(names):
            raise DditError(
                f"{type(self).__name__} takes {len(names)} values ({', '.join(names)}), got {len(args)}"
            )
        try:
            super().__init__(**dict(zip(names, args, strict=False)), **data)
        except ValidationError as error:
            raise DditError(explain(type(self).__name__, error, type(self))) from None

    @property
    def per_sample(self) -> bool:
        return self.order > 0

    def deviations(self, difference: Tensor, grid: Grid, times: Mapping[int, int]) -> Tensor:
        from ddit_eval.ddit.schedule import signals  # torch, which reading a YAML spares

        return signals(difference, grid, self.scales, self.rho, times)

    def signals(self, measured: Tensor) -> dict[int, float]:
        return dict(zip(self.scales, measured.tolist(), strict=True))

    def layout(self, step: Step) -> Layout | None:
        scale = self.decide(step.view)
        return None if scale == 1 else step.tile(scale)

    def verdict(self, traces: Sequence[Sequence[StepTrace]]) -> str | None:
        return None

    def resolved(self) -> dict[str, float]:
        return {}

    @classmethod
    def searched_scales(cls, space: Space) -> set[int]:
        return set(space.coarse_scales)

    @classmethod
    def from_trial(cls, params: Params, steps: int, unit: Unit) -> Policy:
        return cls(**{name: params[name] for name in cls.model_fields if name in params})


def check_forecast(forecast: int, gain: float, skips: bool) -> None:
    """Raise `ValueError` where a forecast is of no step, or a gain of no forecast."""
    if forecast and not skips:
        raise ValueError("forecast: 1 is of skipped steps, and there are none; leave it out")
    if gain != 1 and not forecast:
        raise ValueError(f"gain: {gain:g} is of a forecast, and there is none; add forecast: 1")


def fired(knob: str, steps: Sequence[StepTrace], which: str = "") -> str | None:
    """A sentence where all of `steps` ran fine, or all coarse; else None."""
    values = [value for p in steps for value in (p.signals or {}).values()]
    seen = f" (signals between {min(values):.3g} and {max(values):.3g})" if values else ""
    if all(p.scale == 1 for p in steps):
        return f"{knob} never fired{seen}: every {which}step ran fine"
    if all(p.scale > 1 and (not p.counts or 1 not in p.counts) for p in steps):
        return f"{knob} always fired{seen}: every {which}step ran coarse"
    return None
