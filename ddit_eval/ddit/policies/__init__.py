"""Policies: which patch scale a denoising step runs at.

A policy is plain, frozen data. `decide` is a pure function of what the step can see: all state is in
`StepView.past`. The DDiT rule is `Threshold`; the others are its controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from ddit_eval.ddit.policies.base import StepView, explain
from ddit_eval.ddit.policies.budget import Budget
from ddit_eval.ddit.policies.calibrated import Calibrated
from ddit_eval.ddit.policies.region import Region
from ddit_eval.ddit.policies.static import Base, CoarseFirst, Explicit, FineFirst, Fixed, Random
from ddit_eval.ddit.policies.threshold import Threshold
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError

__all__ = [
    "AnyPolicy", "Base", "Budget", "Calibrated", "CoarseFirst", "Explicit", "FineFirst", "Fixed", "Policy",
    "Random", "Region", "StepView", "Threshold", "choices", "parse_policy", "verdict",
]  # fmt: skip

Policy: TypeAlias = (
    Base | Fixed | CoarseFirst | FineFirst | Explicit | Random | Threshold | Budget | Calibrated | Region
)
AnyPolicy: TypeAlias = Annotated[Policy, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Policy] = TypeAdapter(AnyPolicy)


def parse_policy(data: Mapping[str, Any]) -> Policy:
    """The policy that `data` describes, e.g. {"kind": "fixed", "scale": 2}. Raises DditError."""
    try:
        return _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        raise DditError(explain(f"policy {dict(data)}", error)) from None


def choices(policy: Policy) -> frozenset[int]:
    """Every scale that `policy` may choose, the base scale included."""
    return frozenset({1, *policy.scales, getattr(policy, "warmup_scale", 1)})


def verdict(policy: Policy, traces: Sequence[Sequence[StepTrace]]) -> str | None:
    """A sentence where a threshold or a calibration never or always fired over whole runs; else None."""
    if isinstance(policy, Region) and policy.budget is None:
        # A step of several sizes is counted as its coarsest; what the last steps must be is no choice.
        measured = [p for trace in traces for p in trace[: len(trace) - policy.final_fine] if p.signals]
        return _fired(f"tau = {policy.tau:g}", measured, "measured ") if measured else None
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
    if all(p.scale > 1 and (not p.counts or 1 not in p.counts) for p in steps):
        return f"{knob} always fired{seen}: every {which}step ran coarse"
    return None
