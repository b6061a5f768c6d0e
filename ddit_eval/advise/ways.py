"""What the search for the best way tries: every plan of a budget, caches, and the rows written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddit_eval.advise.pick import PREDICTED
from ddit_eval.advise.plan import PLACES, Prices, Shape, fit
from ddit_eval.ddit.policies import CoarseFirst, Explicit
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Advise, Method, scheduler_of
from ddit_eval.study.space import ROW, Unit

if TYPE_CHECKING:
    from optuna.trial import BaseTrial, FrozenTrial


@dataclass(frozen=True)
class Plans:
    """The rows that trials mean.

    A plan is told by its shape, and how many steps it computes by the speed-up that it is made for: so each
    trial of a target reaches it. prices: of steps, and `base` of the base's run. steps: of the base, and the
    most. scales: coarse ones, none where plans are to be without. written: rows of the experiment that are
    tried first, of all those in `rows`.
    """

    asked: Advise
    prices: Prices
    base: float
    steps: int
    scales: tuple[int, ...] = ()
    written: tuple[Method, ...] = ()
    rows: tuple[str, ...] = ()

    def given(self, number: int) -> Mapping[str, Any]:
        """Of the first trials all parameters; of the others the kind, and which target, in turns."""
        starts = self.starts()
        if number < len(starts):
            return starts[number]
        later = number - len(starts)
        if self.caches and later % 5 == 4:
            return {"way": "cache"}
        plans = later - later // 5 if self.caches else later
        return {"way": "plan", "speed_up": self.targets[plans % len(self.targets)]}

    @property
    def caches(self) -> list[str]:
        """As JSON, which a storage takes."""
        return [json.dumps(cache.model_dump(mode="json", exclude_none=True)) for cache in self.asked.cache]

    @property
    def fastest(self) -> float:
        """The speed-up of the fastest plan there is: a single step on the cheapest patches."""
        return self.base / min(self.prices.of([scale]) for scale in (1, *self.scales))

    @property
    def targets(self) -> list[float]:
        """The speed-ups that a plan can reach."""
        return [s for s in self.asked.speed_ups if s * (1 - PREDICTED) <= self.fastest] or [1.0]

    def starts(self) -> list[dict[str, Any]]:
        """Where the search begins: of each target the regular plans, the caches, and the rows by hand."""
        low, high = self.asked.shift
        own = {"solver": self.asked.solver[0], "shift": min(max(1.0, low), high)}
        plain = {"way": "plan", "bend": 1.0, "forecast": 0, "gain": 1.0} | own
        shapes: list[dict[str, Any]] = [
            {"density": 1.0},  # fewer steps
            {"density": 0.1},  # as many as the base, most of them kept
            {"density": 0.1, "forecast": 1},
            {"density": 0.1, "forecast": 1, "gain": 0.6},
        ]
        coarse: dict[str, Any] = {}
        if self.scales:
            few, many = min(self.scales), max(self.scales)
            coarse = {"scale": many, "share": 0.3}
            shapes = [
                {"density": 1.0, "scale": few, "share": 0.5, "place": "early"},
                {"density": 1.0, "scale": many, "share": 0.5, "place": "early"},
                {"density": 0.5, "scale": many, "share": 0.5, "place": "between"},
                {"density": 0.1, "scale": many, "share": 0.5, "place": "early", "forecast": 1, "gain": 0.6},
            ]
        found = [plain | {"speed_up": speed} | shape for shape in shapes for speed in self.targets]
        found += [{"way": "cache", "cache": cache, "length": 1.0} | own | coarse for cache in self.caches]
        return found + [{"way": "row", "row": method.name} for method in self.written]

    def peers(self, number: int, earlier: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        return earlier

    def suggest(self, trial: BaseTrial) -> None:
        kinds = ["plan"] + ["cache"] * bool(self.caches) + ["row"] * bool(self.rows)
        way = trial.suggest_categorical("way", kinds)
        if way == "row":
            trial.suggest_categorical("row", self.rows)
            return
        trial.suggest_categorical("solver", self.asked.solver)
        trial.suggest_float("shift", *self.asked.shift, log=True)
        if way == "cache":
            trial.suggest_categorical("cache", self.caches)
            trial.suggest_float("length", 0.25, 1.0)
        else:
            trial.suggest_categorical("speed_up", (1.0, *self.asked.speed_ups))
            trial.suggest_float("density", 0.1, 1.0)
            trial.suggest_float("bend", 0.6, 1.8)
            if trial.suggest_categorical("forecast", (0, 1)):
                trial.suggest_float("gain", 0.2, 1.0)
            if self.scales:
                trial.suggest_categorical("place", PLACES)
        if self.scales:
            trial.suggest_categorical("scale", self.scales)
            trial.suggest_float("share", 0.1, 0.9)

    def method(self, params: Mapping[str, Any], unit: Unit) -> Method:
        """Raises `DditError` where a plan cannot be made: its speed-up is out of reach."""
        if params["way"] == "row":
            return next(method for method in self.written if method.name == params["row"])
        steps, scheduler = self.steps, scheduler_of(params["solver"], round(params["shift"], 2))
        row: dict[str, Any] = {"scheduler": scheduler} if scheduler else {}
        if params["way"] == "cache":
            steps = max(2, round(params["length"] * self.steps))
            row |= {"cache": json.loads(params["cache"])}
            if self.scales:
                head = max(1, round(params["share"] * steps))
                row |= {"policy": CoarseFirst(steps=head, scale=params["scale"])}
        else:
            names = [name for name in ("density", "bend", "scale", "share", "place") if name in params]
            budget = self.base / (params["speed_up"] * (1 - PREDICTED))
            scales = fit(Shape(**{name: params[name] for name in names}), budget, self.prices, self.steps)
            if scales is None:
                raise DditError(f"no plan is {params['speed_up']:g}x as fast as the base")
            steps = len(scales)
            if set(scales) != {1}:
                how = {"forecast": 1, "gain": round(params["gain"], 2)} if params["forecast"] else {}
                row |= {"policy": Explicit(scales=scales, **(how if 0 in scales else {}))}
        return Method.model_validate({"name": ROW, "steps": steps} | row)
