"""Policies: which patch scale a denoising step runs at, or that it is skipped.

A policy is plain, frozen data. `decide` is a pure function of what the step can see: all state is in
`StepView.past`. The DDiT rule is `Threshold`; the others are its controls. `Policy` says what one needs;
installed packages add theirs as entry points of the group `ddit_eval.policies`, under their kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddit_eval.ddit.policies.base import NEEDED_OF_CLASS, Policy, PolicyBase, check
from ddit_eval.ddit.policies.budget import Budget
from ddit_eval.ddit.policies.calibrated import Calibrated
from ddit_eval.ddit.policies.region import Region
from ddit_eval.ddit.policies.skip import Mixed, Skip
from ddit_eval.ddit.policies.static import Base, CoarseFirst, Explicit, FineFirst, Fixed, Random, Static
from ddit_eval.ddit.policies.step import Step, StepView
from ddit_eval.ddit.policies.threshold import Threshold
from ddit_eval.errors import DditError
from ddit_eval.system.plugins import plugins

__all__ = [
    "Base", "Budget", "Calibrated", "CoarseFirst", "Explicit", "FineFirst", "Fixed", "Mixed", "Policy",
    "PolicyBase", "Random", "Region", "Skip", "Static", "Step", "StepView", "Threshold", "check", "choices",
    "known", "parse_policy", "searchable",
]  # fmt: skip

_SHIPPED: dict[str, type[Policy]] = {
    "base": Base,
    "fixed": Fixed,
    "coarse-first": CoarseFirst,
    "fine-first": FineFirst,
    "explicit": Explicit,
    "random": Random,
    "skip": Skip,
    "mixed": Mixed,
    "threshold": Threshold,
    "budget": Budget,
    "calibrated": Calibrated,
    "region": Region,
}


def known() -> dict[str, type[Policy]]:
    """Every policy by its kind: what ships, and what installed packages add."""
    return plugins("ddit_eval.policies", NEEDED_OF_CLASS, tuple(_SHIPPED), _wrong) | _SHIPPED


def _wrong(name: str, made: Any) -> str:
    """What is wrong with what an entry point names; "" where nothing is."""
    if not isinstance(made, type):
        return "it must name the policy's class, not an object of it"
    fields = getattr(made, "model_fields", {})
    kind = fields["kind"].default if "kind" in fields else getattr(made, "kind", name)
    if isinstance(kind, str) and kind != name:
        return f"its kind is {kind!r}; an entry point is named by the kind"
    return ""


def parse_policy(data: Mapping[str, Any]) -> Policy:
    """The policy that `data` describes, e.g. {"kind": "fixed", "scale": 2}. Raises DditError."""
    values = dict(data)
    kind = str(values.pop("kind", None))
    there = known()
    if kind not in there:
        names = ", ".join(map(repr, there))
        raise DditError(f"policy {dict(data)}: there is no kind {kind!r}, only {names}")
    try:
        policy = there[kind](**values)
    except (DditError, TypeError) as error:
        raise DditError(f"policy {dict(data)}: {error}") from None
    check(policy)
    return policy


def searchable(kind: str) -> type[Policy]:
    """The policy of that kind, of which a study can search; raises `DditError` where there is none."""
    can = {name: policy for name, policy in known().items() if policy.axes is not None}
    if kind not in can:
        raise DditError(f"{kind!r} is no rule that a study can search; there are {', '.join(sorted(can))}")
    return can[kind]


def choices(policy: Policy) -> frozenset[int]:
    """Every scale that `policy` may choose, the base scale included; 0 where it may skip steps."""
    return frozenset({1, *policy.scales, getattr(policy, "warmup_scale", 1)})
