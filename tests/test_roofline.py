"""The bound of a step: by hand."""

from __future__ import annotations

import pytest

from ddit_eval.errors import DditError
from ddit_eval.figures import Bar, step_roofline
from ddit_eval.roofline import bound, by_scale

MACHINE = {"matmul_gflops": 100.0, "copy_gb_s": 10.0}


def test_the_larger_of_two_times_is_the_bound():
    assert bound(50e9, 1e9, 100, 10) == (0.5, "compute")
    assert bound(5e9, 2e9, 100, 10) == (0.2, "memory")


def test_rows_by_scale():
    rows = by_scale({2: [0.1, 0.3, 0.2], 1: [1.0]}, {1: 50 * 10**9, 2: 10**9}, 10**9, MACHINE)
    assert [(r.scale, r.n, r.p50, r.limit) for r in rows] == [(1, 1, 1.0, "compute"), (2, 3, 0.2, "memory")]
    assert [r.share for r in rows] == pytest.approx([0.5, 0.5])
    assert rows[1].p95 == pytest.approx(0.29)
    assert rows[0].to_json()["share"] == rows[0].share


def test_the_figure_names_what_is_reached():
    figure = step_roofline([Bar(1, 0.06, 0.08, 0.03, "compute"), Bar(2, 0.02, 0.03, 0.002, "memory")])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["50 % of the compute bound", "10 % of the memory bound"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["p", "2p"]
    with pytest.raises(DditError, match="at least one scale"):
        step_roofline([])
