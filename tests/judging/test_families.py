"""What a row does to be faster, and that each such kind is a rival at equal time."""

from __future__ import annotations

import pytest

from ddit_eval.figures.of_results import method_groups
from ddit_eval.figures.style import OWN_GROUPS
from ddit_eval.judging.families import CACHE, METHOD, MIXED, NULL, RIVALS, SETUP, SKIP, SOLVER, STATIC, STEPS
from ddit_eval.judging.verdict import compare_orders, compare_others, firing, judge
from tests.support.made_results import BASE, DDIT, FIRST, field_of, make

PLAIN = {"kind": "base"}
WITH = {
    CACHE: PLAIN | {"cache": {"kind": "taylor-seer"}},
    SOLVER: PLAIN | {"scheduler": {"kind": "unipc"}},
    SETUP: PLAIN | {"setup": "package.module:function"},
    SKIP: {"kind": "explicit", "scales": [1, 0, 1, 0]},
    MIXED: {"kind": "explicit", "scales": [1, 0, 2, 0]},
}


@pytest.mark.parametrize(
    ("policy", "steps", "family", "faster"),
    [
        (PLAIN, 24, NULL, False),
        (PLAIN, 12, STEPS, True),
        (WITH[CACHE], 24, CACHE, True),
        (WITH[CACHE], 12, CACHE, True),
        (WITH[SOLVER], 12, SOLVER, True),
        (WITH[SOLVER], 24, SOLVER, False),
        (WITH[SETUP] | WITH[CACHE], 24, SETUP, True),
        (WITH[CACHE] | WITH[SOLVER], 24, CACHE, True),
        (WITH[SKIP], 4, SKIP, True),
        (WITH[MIXED], 4, MIXED, True),
        ({"kind": "explicit", "scales": [1, 2]}, 2, STATIC, True),
        (WITH[SKIP] | WITH[SOLVER] | {"kind": "explicit"}, 4, SKIP, True),
        (WITH[SOLVER] | WITH[MIXED], 4, "mixed plan with another solver", True),
        (WITH[CACHE] | DDIT, 24, "DDiT with a cache", True),
        (WITH[SETUP] | WITH[CACHE] | DDIT, 24, "DDiT with a setup", True),
        (WITH[SOLVER] | FIRST, 24, "static coarse with another solver", True),
        (DDIT | {"idle": True}, 24, METHOD, False),
    ],
)
def test_a_row_has_the_family_of_what_it_does(policy: dict, steps: int, family: str, faster: bool) -> None:
    results = make([BASE, ("row", policy, steps, 1.5, 30.0)])
    assert results.family(results.row("row")) == family
    assert [row.method for row in results.accelerated()] == ["row"] * faster


@pytest.mark.parametrize("family", RIVALS)
def test_every_rival_that_wins_at_equal_time_is_named_in_the_first_line(family: str) -> None:
    name = {SKIP: "skipping steps", CACHE: "a cache", SOLVER: "another solver"}.get(family, "")
    for value, start in ((45.0, f" wins: {name or 'a '}"), (20.0, "DDiT beats every simple control: ")):
        results = make([*made(), ("rival", WITH[family], 4, 1.6, value)])
        verdict = judge(results)
        assert start in verdict.line.split(";")[0]
        assert verdict.standings[family] == ("beats it" if value > 40 else "beaten")
    plain = judge(make(made()))
    assert not {*RIVALS} & {*plain.standings}


def made() -> list:
    return [
        BASE,
        ("steps-18", PLAIN, 18, 1.3, 35.0),
        ("steps-12", PLAIN, 12, 2.0, 31.0),
        ("coarse-first", {"kind": "coarse-first", "steps": 8, "scale": 2}, 24, 1.55, 25.0),
        ("random", {"kind": "random"}, 24, 1.65, 24.0),
        ("ddit", DDIT, 24, 1.6, 40.0),
    ]


def test_rivals_are_compared_with_the_others_but_not_with_themselves() -> None:
    results = make([*made(), ("rival", WITH[CACHE], 24, 1.6, 45.0), ("kept", WITH[SKIP], 24, 1.6, 40.0)])
    kinds = {c.kind for c in compare_others(results)[CACHE]}
    assert SKIP in kinds
    assert CACHE not in kinds


def test_families_have_marks_of_their_own_and_their_order() -> None:
    results = make([*made()[::-1], *((f, WITH[f], 4, 1.6, 30.0) for f in RIVALS)])
    groups = method_groups(results)
    assert [*groups][:3] == ["base", "fewer steps", SOLVER]
    assert [*groups][-1] == METHOD
    assert len({group.marker for group in groups.values() if group.name != NULL}) == len(groups)
    assert len({group.colour for group in OWN_GROUPS.values()}) == len(OWN_GROUPS)
    assert method_groups(field_of(30.0)).keys() == {"base", "fewer steps", STATIC, "random", METHOD}


def test_what_runs_beside_a_rule_is_not_credited_to_it() -> None:
    rows = [*made(), ("both", WITH[CACHE] | DDIT, 24, 1.6, 45.0), ("o1", DDIT | {"order": 1}, 24, 1.6, 30.0),
            ("first+", WITH[CACHE] | FIRST, 24, 1.6, 60.0)]  # fmt: skip
    results = make(rows)
    assert [row.method for row in firing(results)] == ["ddit", "o1"]
    assert {c.method for c in compare_orders(results)} == {"ddit"}
    assert {c.control for c in judge(results).comparisons if c.kind == "coarse-first"} == {"coarse-first"}
    assert {"DDiT with a cache", "static coarse with a cache"} <= {*compare_others(results)}
    groups = method_groups(results)
    assert [*groups][-2:] == [METHOD, "DDiT with a cache"]
    assert len({group.colour for group in groups.values()}) == len(groups)
