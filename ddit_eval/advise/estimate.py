"""How long it will take, before it begins, and how many trials fit into a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Advise
from ddit_eval.schema.study import Latency

STOPPED = 0.7  # of its prompts a trial sees this share on average, as the hopeless ones are stopped
MORE = 4  # trials of a search beyond those that it begins with, below which it is none
TIMING = 0.12  # of the minutes, for each time that the rows are timed; about TURNS times
TURNS = 1.5
START = 15.0  # seconds until workers have loaded the model


@dataclass(frozen=True)
class Estimate:
    """Trials of each search, and minutes."""

    trials: int
    searching: float
    confirming: float

    def __str__(self) -> str:
        total = self.searching + self.confirming
        return (
            f"about {total:.0f} minutes: {self.searching:.0f} for {self.trials} trials of each search, "
            f"{self.confirming:.0f} to time and to confirm what they find"
        )


def estimate(asked: Advise, table: Latency, steps: int, starts: Sequence[int], workers: int) -> Estimate:
    """steps: of the base. starts: with how many trials each search begins.

    Raises `DditError` where the limit is too short for any search.
    """
    arms, least = len(starts), max(starts) + MORE
    step, around = table.worker
    cost = sum(1 / speed for speed in asked.speed_ups) / len(asked.speed_ups)
    run = steps * step * cost + around
    trial = STOPPED * asked.prompts * run
    bases = asked.prompts * (steps * step + around)
    rows = 3 * len(asked.speed_ups)
    confirming = asked.heldout * (rows * run + steps * step + around) / workers + START
    confirming += TURNS * TIMING * asked.minutes * 60
    limit = asked.minutes * 60 - confirming - bases - START
    trials = asked.trials or int(limit * workers / (trial * arms))
    if trials < least and not asked.trials:
        fixed = confirming - TURNS * TIMING * asked.minutes * 60 + bases + START
        needs = (fixed + least * arms * trial / workers) / (1 - TURNS * TIMING) / 60
        raise DditError(
            f"{asked.minutes:g} minutes are too few on this machine: a search needs {math.ceil(needs)}; give "
            "it --minutes, or ask for fewer speed-ups, or fewer prompts under `advise:`"
        )
    return Estimate(trials, (bases + START + trials * arms * trial / workers) / 60, confirming / 60)
