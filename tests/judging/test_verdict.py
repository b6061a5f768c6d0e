"""The verdict is computed: who beats whom at equal time, and the report's first line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ddit_eval.judging.controls import COMBINED, compare, fewer_steps_at
from ddit_eval.judging.verdict import compare_orders, judge
from tests.support.made_results import BASE, DDIT, FIRST, RANDOM, N, field_of, make


def test_a_baseline_that_wins_is_named_first() -> None:
    verdict = judge(field_of(28.0))
    assert verdict.line.startswith("A simple baseline wins: fewer steps beats DDiT at equal time")
    assert verdict.standings == {
        "fewer steps": "beats it", "coarse-first": "beaten", "random": "beaten", COMBINED: "absent",
    }  # fmt: skip
    assert "DDiT beats coarse-first and random at equal time" in verdict.line


def test_two_baselines_that_win_are_both_named() -> None:
    line = judge(field_of(24.5, first=26.0, random=23.0)).line
    assert line.startswith("A simple baseline wins: fewer steps and coarse-first beat DDiT")


def test_the_method_wins_only_where_it_beats_every_control() -> None:
    verdict = judge(field_of(40.0))
    assert verdict.line.startswith("DDiT beats every simple control: fewer steps, coarse-first and random")
    assert {verdict.standings[kind] for kind in ("fewer steps", "coarse-first", "random")} == {"beaten"}


def test_intervals_that_hold_zero_decide_nothing() -> None:
    near = fewer_steps_at(field_of(0.0), 1.6, "psnr")
    assert near is not None
    verdict = judge(
        field_of(
            near.values + np.tile([3.0, -3.0], N // 2), first=near.values.mean(), random=near.values.mean()
        )
    )
    assert set(verdict.standings.values()) == {"undecided", "absent"}
    assert "nothing is decided at equal time" in verdict.line
    assert "beats" not in verdict.line


def test_lower_is_better_turns_the_sign() -> None:
    rows = [BASE[:4] + (np.zeros(N),), ("random", RANDOM, 24, 1.6, 0.9), ("ddit", DDIT, 24, 1.6, 5.0)]
    results = make(rows, direction="lower")
    found = compare(results, results.row("ddit"), "random", "psnr")
    assert found is not None
    assert found.outcome == "worse"
    assert found.gain.value == pytest.approx(-4.1, abs=0.3)


def test_better_but_slower_is_no_win() -> None:
    rows = [BASE, ("random", RANDOM, 24, 2.0, 20.0), ("ddit", DDIT, 24, 1.5, 30.0)]
    verdict = judge(make(rows))
    assert verdict.comparisons[0].outcome == "not comparable"
    assert verdict.line.startswith("No verdict")


def test_better_and_faster_is_a_win_at_any_time() -> None:
    rows = [BASE, ("random", RANDOM, 24, 1.2, 20.0), ("ddit", DDIT, 24, 1.8, 30.0)]
    assert judge(make(rows)).standings["random"] == "beaten"


def test_wins_and_losses_of_one_control_are_mixed() -> None:
    rows = [
        BASE,
        ("random", RANDOM, 24, 1.6, 25.0),
        ("ddit-a", DDIT, 24, 1.6, 28.0),
        ("ddit-b", DDIT, 24, 1.6, 22.0),
    ]
    verdict = judge(make(rows))
    assert verdict.standings["random"] == "mixed"
    assert "mixed: better in 1 comparison, worse in 1" in verdict.line


def test_a_policy_that_never_fires_is_no_rival() -> None:
    rows = [
        BASE,
        ("random", RANDOM, 24, 1.6, 25.0),
        ("ddit", DDIT | {"idle": True}, 24, 1.0, np.full(N, np.inf)),
    ]
    assert judge(make(rows)).line.startswith("No verdict: no DDiT row ran a coarse step")


def test_infinite_prompts_may_not_decide() -> None:
    """Half the prompts equal the base (inf), the others are worse: no mean tells which is better."""
    mixed = np.where(np.arange(N) % 2, np.inf, 22.0)
    results = make([BASE, ("random", RANDOM, 24, 1.6, 25.0), ("ddit", DDIT, 24, 1.6, mixed)])
    assert judge(results).standings["random"] == "undecided"


def test_infinite_prompts_do_not_hide_a_clear_loss() -> None:
    mixed = np.where(np.arange(N) == 0, np.inf, 10.0)
    results = make([BASE, ("random", RANDOM, 24, 1.6, 25.0), ("ddit", DDIT, 24, 1.6, mixed)])
    assert judge(results).comparisons[0].gain.infinite == 1
    assert judge(results).comparisons[0].gain.value < 0


def test_fewer_steps_are_interpolated_monotonically_and_never_extrapolated() -> None:
    results = field_of(30.0)
    inside, slow, fast = (fewer_steps_at(results, s, "psnr") for s in (1.6, 1.1, 3.0))
    assert inside is not None
    assert slow is not None
    assert fast is not None
    assert 31 < inside.values.mean() < 39
    assert inside.speed == 1.6
    assert (slow.name, slow.speed) == ("steps-18", 1.3)  # the base is infinite, so it is no end of the curve
    assert (fast.name, fast.speed) == ("steps-12", 2.0)
    curve = [fewer_steps_at(results, speed, "psnr") for speed in np.linspace(1.3, 2, 9)]
    means = [control.values.mean() for control in curve if control is not None]
    assert len(means) == 9
    assert all(a > b for a, b in pairwise(means))


def test_without_timing_there_is_no_verdict() -> None:
    full = field_of(30.0)
    line = judge(replace(full, timing=None)).line
    assert line == "No verdict: no method was timed."


def test_fewer_steps_with_coarse_first_is_a_control_of_its_own() -> None:
    rows = [
        BASE,
        ("coarse-first", FIRST, 24, 1.6, 25.0),
        ("both", FIRST, 12, 1.61, 30.0),
        ("ddit", DDIT, 24, 1.61, 28.0),
    ]
    verdict = judge(make(rows))
    assert verdict.standings["coarse-first"] == "beaten"
    assert verdict.standings[COMBINED] == "beats it"
    assert verdict.line.startswith(f"A simple baseline wins: {COMBINED} beats DDiT")


def test_orders() -> None:
    rows = [BASE, *((f"o{n}", DDIT | {"order": n}, 24, 1.6, v) for n, v in ((1, 20.0), (2, 30.0), (3, 25.0)))]
    assert {c.kind: c.outcome for c in compare_orders(make(rows))} == {
        "order 1": "better",
        "order 2": "worse",
    }


def test_what_holm_does_not_leave_is_undecided_everywhere() -> None:
    """A gain that its own interval decides, among many that decide nothing."""
    swing = np.tile([1.0, -1.0], N // 2)
    vague = [(f"ddit-{i}", DDIT, 24, 1.6, 25.0 + 3 * swing) for i in range(8)]
    rows = [BASE, ("random", RANDOM, 24, 1.6, 25.0), *vague]
    alone = make([*rows[:2], ("ddit", DDIT, 24, 1.6, 25.6 + swing)])
    many = make([*rows, ("ddit", DDIT, 24, 1.6, 25.6 + swing)])
    assert judge(alone).standings["random"] == "beaten"
    verdict = judge(many)
    assert verdict.standings["random"] == "undecided"
    assert all(c.outcome == "undecided" or c.p < 0.05 for c in verdict.comparisons)
    assert "beats" not in verdict.line
    compared = compare(many, many.row("ddit"), "random", "psnr")
    assert compared is not None
    assert compared.outcome == "better"
    assert compared.p < 0.05
