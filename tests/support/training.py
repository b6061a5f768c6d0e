"""What every training of a small model must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def resumes_to_the_step(trainer: Callable[[str], Any], stage: int) -> None:
    """A run that was killed after a step and called again takes the same next step as one that was not."""
    whole, killed = trainer("whole"), trainer("killed")
    cuts = whole.plan.stages[stage]
    for run in (whole, killed):
        run.train_step(cuts, 3, 0)
        run.step = 1
    killed.save()
    again = trainer("killed")
    assert again.resume()
    assert again.step == 1
    assert whole.train_step(cuts, 3, 0) == pytest.approx(again.train_step(cuts, 3, 0), rel=1e-5)
