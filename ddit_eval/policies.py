"""Policies: which patch scale a denoising step runs at.

A policy is plain, frozen data. `decide` is a pure function of what the step can see: all state is in
`StepView.past`. The DDiT rule is `Threshold`; the others are its controls.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from ddit_eval.errors import DditError
from ddit_eval.harm.calibration import Calibration, load
from ddit_eval.trace import StepTrace

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


class _Policy(BaseModel):
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
            raise DditError(_explain(type(self).__name__, error)) from None


class _Static(_Policy):
    """A policy that reads no signal."""

    @property
    def order(self) -> int:
        """Order of the finite difference that the policy reads; 0 if it reads none."""
        return 0

    @property
    def rho(self) -> float:
        """Percentile over patches; without meaning where no signal is read."""
        return 0.0


class Base(_Static):
    """Always the base patch size."""

    kind: Literal["base"] = "base"

    @property
    def scales(self) -> tuple[int, ...]:
        return (1,)

    def decide(self, view: StepView) -> int:
        return 1


class Fixed(_Static):
    """Always the same scale."""

    kind: Literal["fixed"] = "fixed"
    scale: Scale

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,)

    def decide(self, view: StepView) -> int:
        return self.scale


class CoarseFirst(_Static):
    """The first `steps` steps at `scale`, the rest fine: FlexiDiT's static schedule (arXiv 2502.20126)."""

    kind: Literal["coarse-first"] = "coarse-first"
    steps: Annotated[int, Field(ge=0)]
    scale: Scale = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (1, self.scale)

    def decide(self, view: StepView) -> int:
        return self.scale if view.index < self.steps else 1


class FineFirst(_Static):
    """The first `steps` steps fine, the rest at `scale`."""

    kind: Literal["fine-first"] = "fine-first"
    steps: Annotated[int, Field(ge=0)]
    scale: Scale = 2

    @property
    def scales(self) -> tuple[int, ...]:
        return (1, self.scale)

    def decide(self, view: StepView) -> int:
        return 1 if view.index < self.steps else self.scale


class Explicit(_Static):
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


class Random(_Static):
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
        counts = _apportion(self.mix, view.total)
        sequence = [scale for scale in sorted(counts) for _ in range(counts[scale])]
        random.Random(f"{self.seed}/{view.seed}").shuffle(sequence)
        return sequence[view.index]


class Threshold(_Policy):
    """The DDiT rule: the coarsest scale whose signal is below `tau` (arXiv 2602.16968).

    A coarse step kicks the velocity and so inflates the next `order` differences; the bare rule then
    falls back to fine and coarsens again once the kick has left the window, a limit cycle of order + 1
    steps. Four remedies, all off by default:

    dwell       keep a scale for at least so many steps once it is chosen
    hysteresis  while coarse, leave a scale only above tau * hysteresis
    measure     "fine" reads the signal only where the last `order` steps were fine; a coarse scale is
                then held for `max_run` steps (None: `order`), followed by `order` fine steps to read again
    max_run     at most so many coarse steps in a row
    """

    kind: Literal["threshold"] = "threshold"
    tau: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    rho: Share = 0.4
    order: Order = 3
    scales: Annotated[tuple[CoarseScale, ...], Field(min_length=1)] = (2, 4)
    warmup_scale: Scale = 1
    dwell: Annotated[int, Field(ge=1)] = 1
    hysteresis: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    measure: Literal["all", "fine"] = "all"
    warmup_steps: Annotated[int, Field(ge=0)] | None = (
        None  # at least so many; None: while there is no signal
    )
    final_fine: Annotated[int, Field(ge=0)] = 0  # so many steps at the end are fine
    max_run: Annotated[int, Field(ge=1)] | None = None

    def decide(self, view: StepView) -> int:
        if view.index >= view.total - self.final_fine:
            return 1
        if view.signals is None or view.index < (self.warmup_steps or 0):
            return self.warmup_scale
        # What was chosen without a signal is no choice to be kept.
        chosen = [p for p in view.past if p.signals is not None and p.index >= (self.warmup_steps or 0)]
        last = chosen[-1].scale if chosen else 1
        coarse_run = _run_length(chosen, lambda p: p.scale > 1)
        limit = self.max_run
        if self.measure == "fine":
            limit = self.max_run or self.order
        if limit is not None and coarse_run >= limit:
            return 1
        if self.measure == "fine" and last > 1:
            return last
        if self.measure == "fine" and any(p.scale > 1 for p in view.past[-self.order :]):
            return 1
        if chosen and _run_length(chosen, lambda p: p.scale == last) < self.dwell:
            return last
        for scale in sorted(self.scales, reverse=True):
            # Staying is easier than going coarse: scales up to the present one get the wider limit.
            tau = self.tau * self.hysteresis if scale <= last else self.tau
            if view.signals[scale] < tau:
                return scale
        return 1


class Budget(_Policy):
    """Spend a fixed share of coarse steps where the signal is lowest; no threshold to tune.

    A running-quantile rule: with b coarse steps left to spend on r eligible steps, a step is coarse if
    its signal is among the lowest b / r of the signals seen so far in this run (its own included). The
    last b steps are coarse if the budget would lapse otherwise, so the cost is exact: round(coarse * steps)
    coarse steps, as far as the eligible steps (after the first `order`, before `final_fine`) allow.
    """

    kind: Literal["budget"] = "budget"
    coarse: Share = 0.5
    scale: CoarseScale = 2
    rho: Share = 0.4
    order: Order = 3
    final_fine: Annotated[int, Field(ge=0)] = 0

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,)

    def decide(self, view: StepView) -> int:
        spent = sum(p.scale > 1 for p in view.past)
        left = round(self.coarse * view.total) - spent
        eligible = view.total - self.final_fine - view.index
        if view.signals is None or left <= 0 or eligible <= 0:
            return 1
        if left >= eligible:
            return self.scale
        signal = view.signals[self.scale]
        seen = [p.signals[self.scale] for p in view.past if p.signals is not None]
        rank = sum(value < signal for value in seen) / (len(seen) + 1)
        return self.scale if rank < left / eligible else 1


class Calibrated(_Policy):
    """Our rule: the scale of least expected harm + price * cost, as `ddit-eval calibrate` measured them.

    A threshold on the raw signal coarsens the wrong steps: the signal is high early and low in mid-run,
    the harm is not. Here the step says how much harm a coarse patch does, and the signal only how this
    picture ranks among others at that step. One knob of these:

    psnr   at least this expected PSNR to the base's picture, in dB (of the mean squared error)
    harm   at most this expected mean squared error of the picture, in [0, 1]
    cost   at most this expected share of the base's FLOPs
    price  the harm that a whole base step is worth, as the rule uses it

    Expected means: on the calibration prompts, as measured with this rule. `calibration` is the name or the
    folder of an adapter, a file, or the content itself; `digest` is filled in from the content, so that
    records of another table are told apart.
    """

    kind: Literal["calibrated"] = "calibrated"
    calibration: str | Calibration
    psnr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    harm: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cost: Annotated[float, Field(gt=0, le=1)] | None = None
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    digest: str | None = None
    _table: Calibration = PrivateAttr()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **knob: Any) -> Calibrated:
        """The policy of an adapter's calibration, e.g. `from_pretrained("mini-flux", psnr=35)`."""
        return cls(calibration=str(name_or_folder), **knob)

    @model_validator(mode="after")
    def _resolve(self) -> Calibrated:
        named = [name for name in _KNOBS if getattr(self, name) is not None]
        if len(named) != 1:
            got = " and ".join(named) or "none"
            raise ValueError(f"give one knob of {', '.join(_KNOBS)}, e.g. psnr: 35; got {got}")
        known = self.calibration
        self._table = known if isinstance(known, Calibration) else load(known)
        digest = self._table.digest
        if self.digest not in (None, digest):
            raise ValueError(
                f"the calibration is {digest} by now, not {self.digest}; leave `digest` out to use it"
            )
        object.__setattr__(self, "digest", digest)
        return self

    @property
    def knob(self) -> str:
        """The knob as written, e.g. "psnr = 35"."""
        name = next(name for name in _KNOBS if getattr(self, name) is not None)
        return f"{name} = {getattr(self, name):g}"

    @property
    def order(self) -> int:
        return self._table.order

    @property
    def rho(self) -> float:
        return self._table.rho

    @property
    def scales(self) -> tuple[int, ...]:
        return self._table.scales

    def price_at(self, total: int) -> float:
        """The price of a base step that the knob stands for in a run of `total` steps."""
        if self.price is not None:
            return self.price
        run = self._table.run_of(total)
        if self.cost is not None:
            return run.price("cost", self.cost)
        return run.price("harm", self.harm if self.harm is not None else 10 ** (-(self.psnr or 0) / 10))

    def decide(self, view: StepView) -> int:
        table, price = self._table, self.price_at(view.total)
        rank = table.last_rank(view.index, view.total, view.signals, view.past)
        harm = {1: 0.0, **table.expected(view.index, view.total, rank)}
        cost = {1: 1.0, **table.cost}
        # Of equal value the finer one: at price 0 that is the base.
        return min(sorted(harm), key=lambda s: harm[s] + price * cost[s])


_KNOBS = ("psnr", "harm", "cost", "price")

Policy: TypeAlias = (
    Base | Fixed | CoarseFirst | FineFirst | Explicit | Random | Threshold | Budget | Calibrated
)
AnyPolicy: TypeAlias = Annotated[Policy, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Policy] = TypeAdapter(AnyPolicy)


def parse_policy(data: Mapping[str, Any]) -> Policy:
    """The policy that `data` describes, e.g. {"kind": "fixed", "scale": 2}. Raises DditError."""
    try:
        return _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        raise DditError(_explain(f"policy {dict(data)}", error)) from None


def choices(policy: Policy) -> frozenset[int]:
    """Every scale that `policy` may choose, the base scale included."""
    return frozenset({1, *policy.scales, getattr(policy, "warmup_scale", 1)})


def verdict(policy: Policy, traces: Sequence[Sequence[StepTrace]]) -> str | None:
    """A sentence where a threshold or a calibration never or always fired over whole runs; else None."""
    if isinstance(policy, Calibrated):
        return _fired(policy.knob, [p for trace in traces for p in trace])
    if not isinstance(policy, Threshold):
        return None
    free = [
        p
        for trace in traces
        for p in trace
        if p.signals is not None
        and p.index >= (policy.warmup_steps or 0)
        and p.index < len(trace) - policy.final_fine
    ]
    if not free:
        return f"tau = {policy.tau:g} never came into play: no step had a signal of order {policy.order}"
    return _fired(f"tau = {policy.tau:g}", free, "measured ")


def _fired(knob: str, steps: Sequence[StepTrace], which: str = "") -> str | None:
    values = [value for p in steps for value in (p.signals or {}).values()]
    seen = f" (signals between {min(values):.3g} and {max(values):.3g})" if values else ""
    if all(p.scale == 1 for p in steps):
        return f"{knob} never fired{seen}: every {which}step ran fine"
    if all(p.scale > 1 for p in steps):
        return f"{knob} always fired{seen}: every {which}step ran coarse"
    return None


def _run_length(past: Sequence[StepTrace], holds: Any) -> int:
    """How many of the newest steps `holds` is true of, without a gap."""
    return sum(1 for _ in takewhile(holds, reversed(past)))


def _apportion(mix: Mapping[int, float], total: int) -> dict[int, int]:
    """Whole steps per scale in proportion to `mix`, by largest remainder."""
    weight = sum(mix.values())
    exact = {scale: share / weight * total for scale, share in mix.items()}
    counts = {scale: int(value) for scale, value in exact.items()}
    short = total - sum(counts.values())
    for scale in sorted(exact, key=lambda s: (counts[s] - exact[s], s))[:short]:
        counts[scale] += 1
    return counts


def _explain(what: str, error: ValidationError) -> str:
    parts = []
    for e in error.errors():
        where = ".".join(str(part) for part in e["loc"])
        # What is wrong with the whole names its own value.
        value = "" if e["type"] == "missing" or not where else f" (got {e['input']!r})"
        message = e["msg"].removeprefix("Value error, ") + value
        parts.append(f"{where}: {message}" if where else message)
    return f"{what}: " + "; ".join(parts)
