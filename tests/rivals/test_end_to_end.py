"""A cache, a scheduler and setups from the YAML to the result files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment import evaluate as evaluating
from ddit_eval.experiment.generate import generate, records_of
from ddit_eval.experiment.time import time_experiment
from tests.conftest import TinyFolders

CACHE = {"kind": "first-block", "threshold": 0.5}
METHODS = [
    {"name": "base"},
    {"name": "cached", "cache": CACHE},
    {"name": "cached-again", "cache": CACHE},
    {"name": "heun", "steps": 2, "scheduler": {"kind": "heun"}},
    {"name": "kernel", "setup": "tests.support.speedups:attention"},
    {"name": "lora", "setup": "tests.support.speedups:lora"},
]


def test_rows_of_any_kind_are_made_measured_and_timed(
    tiny: TinyFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "damage", lambda *args: ())
    small = {"prompts": {"source": "world", "count": 2}, "timing": {"prompts": 1, "rounds": 1, "whole": 1}}
    experiment = tiny.experiment(methods=METHODS, **small)
    assert generate(experiment, tmp_path).made == 12
    assert generate(experiment, tmp_path).made == 0
    quality = evaluating.evaluate(experiment, tmp_path, tmp_path / "results")
    rows = {row.method: row for row in quality.rows}
    assert rows["base"].of.cache is rows["base"].of.setup is None
    assert rows["cached"].of.cache == CACHE
    assert rows["cached"].flop_ratio == rows["cached-again"].flop_ratio > 1.2
    assert rows["heun"].flop_ratio == pytest.approx(4 / 3)
    assert rows["kernel"].flop_ratio == pytest.approx(1, rel=0.02)  # counted against the table
    assert rows["lora"].flop_ratio < rows["kernel"].flop_ratio
    timing = time_experiment(experiment, tmp_path / "timing.json")
    assert [row.of for row in timing.rows] == [row.of for row in quality.rows]

    edited = tiny.experiment(
        methods=[*METHODS[:1], METHODS[1] | {"cache": CACHE | {"threshold": 1}}], **small
    )
    with pytest.raises(DditError, match=r"cache.threshold is 1.0 in the experiment and 0.5 in record"):
        records_of(edited, tmp_path)
