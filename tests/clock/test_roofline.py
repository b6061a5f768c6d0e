"""The bound of a step: by hand."""

from __future__ import annotations

import pytest

from ddit_eval.cli import show
from ddit_eval.cli.show import step_bar
from ddit_eval.clock.machine import describe
from ddit_eval.clock.roofline import bound, by_scale
from ddit_eval.errors import DditError
from ddit_eval.figures import Bar, step_roofline
from ddit_eval.schema import Timing

MACHINE = describe("cpu").model_copy(update={"matmul_gflops": 100.0, "copy_gb_s": 10.0})


def test_the_larger_of_two_times_is_the_bound():
    assert bound(50e9, 1e9, 100, 10) == (0.5, "compute")
    assert bound(5e9, 2e9, 100, 10) == (0.2, "memory")


def test_rows_by_scale():
    rows = by_scale({2: [0.1, 0.3, 0.2], 1: [1.0]}, {1: 50 * 10**9, 2: 10**9}, 10**9, MACHINE)
    assert [(r.scale, r.n, r.p50, r.limit) for r in rows] == [(1, 1, 1.0, "compute"), (2, 3, 0.2, "memory")]
    assert [r.share for r in rows] == pytest.approx([0.5, 0.5])
    assert rows[1].p95 == pytest.approx(0.29)


def test_the_figure_names_what_is_reached():
    figure = step_roofline([Bar(1, 0.06, 0.08, 0.03, "compute"), Bar(2, 0.02, 0.03, 0.002, "memory")])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["50 % of the compute bound", "10 % of the memory bound"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["p", "2p"]
    with pytest.raises(DditError, match="at least one scale"):
        step_roofline([])


def test_the_bar_of_a_step_is_full_up_to_the_bound():
    assert step_bar(0.4, 0.1, 0.4, width=8) == "██░░░░░░"
    assert step_bar(0.1, 0.05, 0.4, width=8) == "█░"
    assert step_bar(0.4, 0.5, 0.4, width=8) == "█" * 8  # never above its bound


def test_what_time_prints(capsys, monkeypatch):
    from rich.console import Console

    rows = by_scale({1: [0.2, 0.2], 2: [0.1]}, {1: 10**10, 2: 10**9}, 10**6, MACHINE)
    one = {"value": 1.0, "low": 1.0, "high": 1.0}
    base = {"method": "base", "speedup": one, "speedups": {}, "stages": {}, "prompts": 4, "runs": 4,
            "seconds": {"p50": 4.0, "p95": 5.0, "mean": 4.0}}  # fmt: skip
    counted = [row.flops + (row.scale == 2) * 10**7 for row in rows]
    timing = Timing.model_validate(
        {"rows": [base], "machine": MACHINE, "null": None, "batch": 1, "prompts": 4,
         "scales": [row.model_copy(update={"counted": n}) for row, n in zip(rows, counted, strict=True)],
         "profile": "", "model": "", "reference": "base", "rounds": 1, "stage": "denoise"}
    )  # fmt: skip
    monkeypatch.setattr(show, "stdout", Console(width=160))
    show.show_timing(timing)
    printed = capsys.readouterr().out
    assert "p95 s" in printed
    assert "50 %" in printed  # of 100 GFLOP/s
    assert "█" * 8 + "░" * 8 in printed
    assert "at 2p torch counts 1.010 GFLOP a step and the formula says 1.000" in printed
    assert "at 1p torch" not in printed
