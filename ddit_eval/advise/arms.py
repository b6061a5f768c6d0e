"""Several searches in one study, side by side: each learns from its own trials, all get equally many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddit_eval.experiment.config import Method
from ddit_eval.study.space import Unit, Ways

if TYPE_CHECKING:
    from optuna.trial import BaseTrial, FrozenTrial

ARMS = WITHOUT, WITH, RULE = ("without coarse patches", "with coarse patches", "the published rule")


@dataclass(frozen=True)
class Arms:
    """Ways by name; trial after trial they take turns."""

    ways: Mapping[str, Ways]

    def given(self, number: int) -> Mapping[str, Any]:
        name = self._of(number)
        return {"arm": name} | dict(self.ways[name].given(number // len(self.ways)))

    def peers(self, number: int, earlier: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        return [trial for trial in earlier if trial.params.get("arm") == self._of(number)]

    def suggest(self, trial: BaseTrial) -> None:
        self.ways[trial.suggest_categorical("arm", list(self.ways))].suggest(trial)

    def method(self, params: Mapping[str, Any], unit: Unit) -> Method:
        return self.ways[params["arm"]].method(params, unit)

    def _of(self, number: int) -> str:
        return list(self.ways)[number % len(self.ways)]
