from __future__ import annotations

import json
from typing import Any

import pytest

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.stats import Interval
from experiments import bench
from tests.support.tiny import CALL, tiny_flux

SHORT = bench.Effort(prompts=2, rounds=1, steps=2, batch=2, batch_rounds=1, decisions=6, processes=1)


def test_bench_runs_whole_on_a_tiny_pipeline(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    one = Interval(0.1, 0.1, 0.1, 1)
    monkeypatch.setattr(bench, "start_up", lambda effort: [bench.Target("import", "import", "s", one, 0.5)])
    pipe = tiny_flux()
    call = {k: CALL[k] for k in ("height", "width", "max_sequence_length")}
    before = sorted(pipe.transformer.state_dict())
    got = bench.bench(pipe, Adapter.from_base(pipe, rank=2).eval(), call, SHORT)
    names = [row["name"] for row in got["rows"]]
    regions = ["regions, one tiling", "regions, a tiling a sample"]
    assert names == [
        "attached", "rule", "decision", "tiling", "always-2p", "always-4p", *regions,
        "rule, a schedule a sample", "import",
    ]  # fmt: skip
    assert got["base_step_seconds"] > 0
    assert got["rows"][2]["value"] > 0
    assert {row["verdict"] for row in got["rows"]} <= {"met", "missed", "undecided"}
    json.dumps(got, allow_nan=False)
    bench.show(got)
    assert "target" in capsys.readouterr().out
    assert sorted(pipe.transformer.state_dict()) == before


@pytest.mark.parametrize(
    ("low", "high", "at_most", "verdict"),
    [
        (0.2, 0.9, True, "met"),
        (0.5, 1.5, True, "undecided"),
        (1.1, 1.5, True, "missed"),
        (1.1, 1.5, False, "met"),
        (0.5, 0.9, False, "missed"),
        (0.5, 1.5, False, "undecided"),
    ],
)
def test_a_target_is_met_only_by_its_whole_interval(
    low: float, high: float, at_most: bool, verdict: str
) -> None:
    figure = Interval((low + high) / 2, low, high, 8)
    assert bench.Target("x", "x", "s", figure, 1.0, at_most).verdict == verdict


def test_median_interval() -> None:
    got = bench.median([30.0, 10.0, 20.0])
    assert (got.value, got.low, got.high) == (20, 10, 30)
    many = bench.median([float(i) for i in range(101)])
    assert many.value == 50
    assert 38 <= many.low <= 41
    assert 59 <= many.high <= 62
    assert bench.median([4.0]).value == 4.0


def test_start_up_is_measured_in_other_processes() -> None:
    imported, helped = bench.start_up(SHORT)
    assert 0 < imported.figure.value < 5
    assert imported.figure.value < helped.figure.value
