"""How long it will take, before it begins, and how many trials fit into a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Advise
from ddit_eval.schema.study import Latency

STOPPED = 0.7  # of its prompts a trial sees this share on average, as the hopeless ones are stopped
MORE = 4  # trials of a search beyond those that it begins with, below which it is none
TIMING = 0.15  # of the minutes, for each time that the rows are timed; about TURNS times
TURNS = 1.5
START = 15.0  # seconds until workers have loaded the model
SHARED = 0.8  # of their time several workers compute; the rest they wait for each other


@dataclass(frozen=True)
class Estimate:
    """Trials of each search, and minutes. first: trials after which their number is set anew, by the pace
    that they had; limit: seconds that all of them may take."""

    trials: int
    searching: float
    confirming: float
    first: int
    limit: float

    def paced(self, spent: float, each: float) -> int:
        """Trials of each search, where the first ones took `spent` seconds; `each`: those of one of each."""
        return self.first + max(0, int((self.limit - spent) / each))

    def __str__(self) -> str:
        total = self.searching + self.confirming
        return (
            f"about {total:.0f} minutes: {self.searching:.0f} for {self.trials} trials of each search, "
            f"{self.confirming:.0f} to time and to confirm what they find"
        )


def estimate(asked: Advise, table: Latency, steps: int, arms: int, starts: int, workers: int) -> Estimate:
    """steps: of the base. arms: searches. starts: with how many trials the longest one begins.

    Raises `DditError` where the limit is too short for any search.
    """
    step, around = table.worker
    cost = sum(1 / speed for speed in asked.speed_ups) / len(asked.speed_ups)
    base, run = steps * step + around, steps * step * cost + around
    together = workers * (SHARED if workers > 1 else 1.0)
    trial = STOPPED * asked.prompts * run * arms / together  # of each search one
    loading = asked.prompts * base + START
    timing, making = TURNS * TIMING, asked.heldout * (3 * len(asked.speed_ups) * run + base) / workers + START
    limit = asked.minutes * 60 * (1 - timing) - making - loading
    trials = asked.trials or int(limit / trial)
    if trials < starts + MORE and not asked.trials:
        needs = (making + loading + (starts + MORE) * trial) / (1 - timing) / 60
        raise DditError(
            f"{asked.minutes:g} minutes are too few on this machine: a search needs {math.ceil(needs)}; give "
            "it --minutes, or ask for fewer speed-ups, or fewer prompts under `advise:`"
        )
    return Estimate(
        trials, (loading + trials * trial) / 60, making / 60 + timing * asked.minutes, starts + MORE, limit
    )
