"""The search for the tau of a given cost."""

from __future__ import annotations

import math

import pytest

from experiments.match_tau import search


def stairs(tau: float) -> float:
    """A ratio that rises with tau in jumps, from 1 to 4, as a rule's does."""
    return 1 + 3 * min(1.0, max(0.0, round(8 * math.log10(tau / 0.01)) / 16))


@pytest.mark.parametrize("start", [1e-4, 0.02, 0.1, 30.0])
def test_finds_the_nearest_step_from_either_side(start: float) -> None:
    tried: list[float] = []

    def ratio_of(tau: float) -> float:
        tried.append(tau)
        return stairs(tau)

    tau, ratio = search(ratio_of, start, 2.5, tries=20)
    assert ratio == 2.5 == stairs(tau)
    assert tried[0] == start
    assert tried[-1] == tau  # stops where it is close


def test_gives_the_nearest_where_no_tau_has_the_ratio() -> None:
    tau, ratio = search(lambda tau: 1.2 if tau < 0.5 else 2.0, 0.1, 1.4, tries=7)
    assert (tau < 0.5, ratio) == (True, 1.2)


def test_a_rule_that_never_fires_ends_after_its_tries() -> None:
    tried: list[float] = []

    def never(tau: float) -> float:
        tried.append(tau)
        return 1.0

    assert search(never, 0.1, 1.5, tries=6)[1] == 1.0
    assert len(tried) == 6
    assert tried == sorted(tried)
    assert tried[-1] > 100
