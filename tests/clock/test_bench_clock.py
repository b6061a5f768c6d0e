"""The bench that tries to fool the clock."""

from __future__ import annotations

from typing import Any

import pytest

from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.stats import Interval
from experiments import bench_clock
from tests.support.tiny import CALL, tiny_flux

ONE = Interval(1.0, 0.98, 1.02, 8)


@pytest.mark.parametrize(
    ("null", "row", "loaded", "bad", "says"),
    [
        (ONE, ONE, False, None, "met"),
        (ONE, Interval(1.02, 1.01, 1.03, 8), True, None, "missed"),
        (ONE, Interval(1.02, 0.99, 1.06, 8), True, None, "missed"),
        (Interval(1.01, 0.99, 1.04, 8), ONE, False, None, "missed"),
        (Interval(1.01, 0.99, 1.04, 8), ONE, True, None, "met"),
        (ONE, Interval(1.3, 1.2, 1.4, 8), True, "it was disturbed", "nothing measured"),
    ],
)
def test_a_run_is_met_only_where_every_interval_is(
    null: Interval, row: Interval, loaded: bool, bad: str | None, says: str
) -> None:
    assert bench_clock.verdict({"null": null, "rows": [ONE, row], "bad": bad}, loaded) == says


def test_it_measures_a_tiny_pipeline(capsys: Any) -> None:
    pipe = tiny_flux()
    call = {k: CALL[k] for k in ("height", "width", "max_sequence_length")} | {"num_inference_steps": 1}
    pipe.set_progress_bar_config(disable=True)
    run = bench_clock.measure(Stopwatch(pipe), call, prompts=2, seed=0, minutes=1e-6)
    assert len(run["rows"]) == bench_clock.ROWS
    assert run["rounds"] == 2
    bench_clock.show({**run, "load": "none", "verdict": bench_clock.verdict(run, False)})
    assert "the base against itself" in capsys.readouterr().out
