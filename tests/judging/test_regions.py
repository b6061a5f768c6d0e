"""Regions: which rivals they meet, on which prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddit_eval.judging.regions import compare_regions, strata
from tests.support.made_results import FIRST, N, make

REGION = {"kind": "region", "budget": 0.5}
RULE = {"kind": "threshold", "tau": 0.1, "order": 3}
TEXTS = tuple(f"a red star over {'plain white' if i < N // 2 else 'noisy gray and white'}" for i in range(N))


def test_prompts_are_told_apart_by_their_background() -> None:
    texts = (*TEXTS[:1], "a red star", "a blue cross moves left over gradient gray and navy", TEXTS[-1])
    assert strata(texts) == {"all": [0, 1, 2, 3], "plain": [0, 2], "busy": [3]}
    assert strata(("a photo of a dog",)) == {"all": [0]}


def test_a_gain_on_busy_prompts_alone_is_found_there_alone() -> None:
    on_busy = np.where(np.arange(N) < N // 2, 20.0, 30.0) + np.random.default_rng(1).normal(0, 0.3, N)
    results = make(
        [
            ("base", {"kind": "base"}, 24, 1.0, 60.0),
            ("steps-12", {"kind": "base"}, 12, 2.0, 40.0),
            ("region", REGION, 24, 1.5, on_busy),
            ("first", FIRST, 24, 1.5, 25.0),
            ("ddit", RULE, 24, 3.0, 20.0),
        ]
    )
    results = replace(results, prompts=TEXTS)
    found = {(name, c.kind): c for name, same in compare_regions(results).items() for c in same}
    assert found["plain", "coarse-first"].outcome == "worse"
    assert found["busy", "coarse-first"].outcome == "better"
    assert found["plain", "coarse-first"].gain.n == N // 2
    assert {found[name, "fewer steps"].outcome for name in ("all", "plain", "busy")} == {"worse"}
    assert found["all", "DDiT"].outcome == "not comparable"


def test_without_regions_nothing_is_compared() -> None:
    results = make([("base", {"kind": "base"}, 24, 1.0, 60.0), ("first", FIRST, 24, 1.5, 25.0)])
    assert compare_regions(replace(results, prompts=TEXTS)) == {}
