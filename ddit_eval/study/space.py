"""The search space: what a trial is asked for, and the policy that its parameters mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit.policies import Base, Budget, CoarseFirst, Explicit, FineFirst, Policy, Region, Threshold
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Rule, Study

if TYPE_CHECKING:
    import optuna

Params = Mapping[str, Any]


def check_scales(space: Study, scales: tuple[int, ...]) -> None:
    """Raise `DditError` where the study wants a scale that the adapter (its `scales`) lacks."""
    if "region" in space.rule and not _nested(space):
        raise DditError(
            f"study: `region` needs scales that divide each other, and there are {list(space.scales)}; "
            "add [2, 4]"
        )
    coarse = {"threshold": {*space.coarse_scales, *space.warmup}, "base": set()}
    wanted = set().union(*(coarse.get(rule, set(space.coarse_scales)) for rule in space.rule))
    lacking = sorted(wanted - {1} - set(scales))
    if lacking:
        have = f"the adapter has {', '.join(map(str, scales))}" if scales else "there is no adapter"
        raise DditError(
            f"study: scale {', '.join(map(str, lacking))} is to be searched, but {have}; take it out of "
            "`scales` and `warmup`, or distil an adapter that has it"
        )


def suggest(trial: optuna.trial.BaseTrial, space: Study) -> None:
    """Ask a trial for the parameters of one rule; names that two rules share mean the same in both."""
    rule = trial.suggest_categorical("rule", space.rule)
    trial.suggest_categorical("steps", space.steps)
    if rule in ("threshold", "budget", "region"):
        trial.suggest_categorical("order", space.order)
    if rule in ("threshold", "budget"):
        trial.suggest_float("rho", *space.rho)
    if rule == "region":
        trial.suggest_categorical("region_scales", _nested(space))
        trial.suggest_float("budget", *space.budget)
        trial.suggest_categorical("window", space.window)
    if rule == "threshold":
        trial.suggest_float("tau_relative", *space.tau, log=True)
        trial.suggest_categorical("scales", [_name(scales) for scales in space.scales])
        trial.suggest_categorical("warmup", space.warmup)
        trial.suggest_int("dwell", *space.dwell)
        trial.suggest_float("hysteresis", *space.hysteresis)
    if rule in ("coarse-first", "fine-first", "budget"):
        trial.suggest_float("share", *space.share)
        trial.suggest_categorical("scale", space.coarse_scales)
    if rule == "explicit":
        for segment in range(space.segments):
            trial.suggest_categorical(f"segment_{segment}", (1, *space.coarse_scales))


def policy_of(params: Params, unit: Callable[[int], float]) -> tuple[Policy, int]:
    """The policy and the number of steps that `params` mean.

    `unit(order)`: the signal that a relative tau of 1 stands for.
    """
    rule, steps = params["rule"], int(params["steps"])
    if rule == "threshold":
        return Threshold(
            tau=params["tau_relative"] * unit(params["order"]),
            rho=params["rho"],
            order=params["order"],
            scales=_scales(params["scales"]),
            warmup_scale=params["warmup"],
            dwell=params["dwell"],
            hysteresis=params["hysteresis"],
        ), steps
    if rule == "budget":
        return Budget(
            coarse=params["share"], scale=params["scale"], rho=params["rho"], order=params["order"]
        ), steps
    if rule == "region":
        return Region(
            budget=params["budget"],
            scales=_scales(params["region_scales"]),
            window=params["window"],
            order=params["order"],
        ), steps
    if rule == "explicit":
        scales = [params[f"segment_{i}"] for i in range(sum(name.startswith("segment_") for name in params))]
        return Explicit(scales=tuple(scales[i * len(scales) // steps] for i in range(steps))), steps
    if rule == "coarse-first":
        return CoarseFirst(steps=round(params["share"] * steps), scale=params["scale"]), steps
    if rule == "fine-first":
        fine = steps - round(params["share"] * steps)
        return FineFirst(steps=fine, scale=params["scale"]), steps
    return Base(), steps


def first_point(space: Study, rule: Rule) -> dict[str, Any]:
    """Where the search of a rule starts; for the threshold the published one (order 3, rho .4, every scale).

    tau and the share are in mid-range, the segments fine and then coarse, the base at its fewest steps.
    """
    low, high = space.tau
    coarse = space.coarse_scales[0]
    point: dict[str, Any] = {
        "rule": rule,
        "steps": min(space.steps) if rule == "base" else max(space.steps),
        "order": max(space.order),
        "rho": min(max(0.4, space.rho[0]), space.rho[1]),
        "tau_relative": math.sqrt(low * high),
        "scales": _name(max(space.scales, key=sum)),
        "warmup": space.warmup[0],
        "dwell": space.dwell[0],
        "hysteresis": space.hysteresis[0],
        "share": sum(space.share) / 2,
        "region_scales": next(iter(_nested(space)[::-1]), ""),
        "budget": sum(space.budget) / 2,
        "window": space.window[0] if 3 not in space.window else 3,
        "scale": coarse,
    }
    return point | {f"segment_{i}": coarse if 2 * i >= space.segments else 1 for i in range(space.segments)}


def _nested(space: Study) -> list[str]:
    """The sets of scales that divide each other, which a budget needs."""
    return [_name(scales) for scales in space.scales if not any(b % a for a, b in pairwise(sorted(scales)))]


def _scales(name: str) -> tuple[int, ...]:
    return tuple(int(s) for s in name.split(","))


def _name(scales: tuple[int, ...]) -> str:
    return ",".join(map(str, scales))
