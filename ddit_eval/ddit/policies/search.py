"""What a study may search: parameters that a policy's class lists as its `axes`.

Names that two policies share mean the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Params: TypeAlias = Mapping[str, Any]
Unit: TypeAlias = Callable[[int], float]
Space: TypeAlias = Any  # the ranges and choices of a study: `ddit_eval.experiment.config.Study`


@dataclass(frozen=True)
class Axis:
    """A parameter, or a few: how a trial is asked for it, and the values that the search starts with."""

    ask: Callable[[BaseTrial, Space], Any]
    start: Callable[[Space], dict[str, Any]]


def choice(name: str, options: Callable[[Space], Sequence[Any]], start: Callable[[Space], Any]) -> Axis:
    """One of a few values."""
    return Axis(
        lambda trial, space: trial.suggest_categorical(name, options(space)),
        lambda space: {name: start(space)},
    )


def number(
    name: str,
    ends: Callable[[Space], tuple[float, float]],
    start: Callable[[Space], float],
    log: bool = False,
) -> Axis:
    """A number between two ends."""
    return Axis(
        lambda trial, space: trial.suggest_float(name, *ends(space), log=log),
        lambda space: {name: start(space)},
    )


def whole(name: str, ends: Callable[[Space], tuple[int, int]], start: int) -> Axis:
    """A whole number between two ends, which starts at the nearest to `start`."""
    return Axis(
        lambda trial, space: trial.suggest_int(name, *ends(space)),
        lambda space: {name: min(max(start, ends(space)[0]), ends(space)[1])},
    )


def listed(scales: Sequence[int]) -> str:
    """A set of scales as a trial stores it."""
    return ",".join(map(str, scales))


def scales_of(text: str) -> tuple[int, ...]:
    """The inverse of `listed`."""
    return tuple(int(s) for s in text.split(","))


ORDER = choice("order", lambda s: s.order, lambda s: max(s.order))
RHO = number("rho", lambda s: s.rho, lambda s: min(max(0.4, s.rho[0]), s.rho[1]))
SHARE = number("share", lambda s: s.share, lambda s: sum(s.share) / 2)
SCALE = choice("scale", lambda s: s.coarse_scales, lambda s: s.coarse_scales[0])


def _ask_forecast(trial: BaseTrial, space: Space) -> None:
    if trial.suggest_categorical("forecast", space.forecast):
        trial.suggest_float("gain", *space.gain)


# Its gain is asked for only where there is a forecast.
FORECAST = Axis(
    _ask_forecast,
    lambda s: {"forecast": max(s.forecast)} | ({"gain": sum(s.gain) / 2} if max(s.forecast) else {}),
)
