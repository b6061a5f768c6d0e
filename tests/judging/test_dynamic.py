"""Static or dynamic: shares of prompts on which a plan or a rule is near the best."""

from __future__ import annotations

import numpy as np

from ddit_eval.judging.dynamic import duels, dynamic_line
from ddit_eval.judging.verdict import judge
from ddit_eval.report.blocks import to_markdown
from ddit_eval.report.document import document
from tests.support.made_results import BASE, DDIT, FIRST, RANDOM, N, changed, make

EVEN = np.arange(N) % 2 == 0


def test_a_static_plan_near_the_best_everywhere_beats_a_rule_that_is_so_half_the_time() -> None:
    rows = [BASE, ("first", FIRST, 24, 1.5, np.full(N, 25.5)), ("random", RANDOM, 24, 1.5, np.full(N, 60.0)),
            ("fixed", {"kind": "fixed", "scale": 2}, 24, 1.5, np.full(N, 20.0)),
            ("ddit", DDIT, 24, 1.5, np.where(EVEN, 26.0, 21.0))]  # fmt: skip
    results = make(rows)
    (duel,) = duels(results)
    assert duel.plans == ("first", "fixed")
    assert (duel.plan.value, duel.looks.value, duel.plan.n) == (1.0, 0.5, N)
    assert duel.ahead.low > 0
    line = dynamic_line(results)
    assert line.startswith("One static plan (`first`) is within 1 dB of each prompt's best row of equal cost")
    assert "such pairs" not in line
    two = dynamic_line(make([*rows, ("o1", DDIT | {"order": 1}, 24, 1.5, 25.0)]))
    assert two.endswith(" apart (the furthest apart of 2 such pairs, not adjusted for their number).")
    cached = ("both", DDIT | {"cache": {"kind": "first-block"}}, 24, 1.5, 60.0)
    assert dynamic_line(make([*rows, cached])) == line
    assert line in to_markdown(document(results, judge(results), {}))


def test_the_plan_is_not_picked_on_the_prompt_that_it_is_judged_on() -> None:
    """Two plans, each the best on half of the prompts: without that prompt the other one is picked."""
    halves = [("a", np.where(EVEN, 30.0, 20.0)), ("b", np.where(EVEN, 20.0, 30.0))]
    rule = ("ddit", DDIT, 24, 1.5, np.full(N, 29.5))
    results = make([BASE, *((n, FIRST, 24, 1.5, v) for n, v in halves), rule])
    (duel,) = duels(results)
    assert (duel.plan.value, duel.looks.value) == (0.0, 1.0)


def test_without_rows_of_equal_cost_it_says_so() -> None:
    results = make([BASE, ("first", FIRST, 24, 1.5, 25.0), ("ddit", DDIT, 24, 1.5, 26.0)])
    rows = tuple(r.model_copy(update={"flop_ratio": 3.0}) if r.method == "ddit" else r for r in results.rows)
    assert duels(changed(results, rows=rows)) == []
    assert dynamic_line(changed(results, rows=rows)).startswith("No static row costs as much as ddit")
    assert dynamic_line(make([BASE])).startswith("No DDiT row")
