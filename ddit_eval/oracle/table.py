"""The harm table: what one coarse step does to the final picture, and which signals announced it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddit_eval.oracle.best import Schedule, best

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HarmTable:
    """P prompts, T steps, S coarse scales.

    harm (P, T, S): mean squared error of the final picture with step t alone at scale s. signals: by order
    (P, T, S), nan while the history is too short. cost (S,): of a step, as a share of the base's.
    """

    prompts: tuple[str, ...]
    scales: tuple[int, ...]
    cost: tuple[float, ...]
    harm: Floats
    signals: Mapping[int, Floats]
    rho: float = 0.4

    @property
    def steps(self) -> int:
        return int(self.harm.shape[1])

    def shared(self, budget: float) -> Schedule:
        """The one schedule for all prompts: least mean harm for `budget` (a share of the base's cost)."""
        return best(self.harm.mean(0), self.cost, self.scales, budget)

    def per_prompt(self, budget: float) -> tuple[Schedule, ...]:
        """The best schedule of each prompt, as only one who had seen all the pictures could choose it."""
        return tuple(best(harm, self.cost, self.scales, budget) for harm in self.harm)


def fill_steps(harm: Floats) -> Floats:
    """Steps that were not measured (nan) from their measured neighbours: (P, T, S), log-linear in the step.

    Harm is smooth along the run, and over orders of magnitude; past the ends it is held.
    """
    filled = np.log(np.maximum(harm, 1e-12))
    at = np.arange(harm.shape[1])
    for prompt, scale in np.ndindex(len(harm), harm.shape[2]):
        row = filled[prompt, :, scale]
        known = ~np.isnan(row)
        row[:] = np.interp(at, at[known], row[known])
    return np.where(np.isnan(harm), np.exp(filled), harm)
