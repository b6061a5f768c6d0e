"""Several patch sizes in one step against one size a step and the simple controls, by kind of prompt.

A region rule has something to gain where a picture has both calm and busy places, so plain and busy prompts
are told apart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ddit_eval.judging.controls import FIRST, Comparison, compare, decide
from ddit_eval.judging.families import METHOD, STEPS
from ddit_eval.judging.results import Results
from ddit_eval.world.caption import parse
from ddit_eval.world.motion import PATTERNS

REGION = "region"
AGAINST = (STEPS, FIRST, METHOD, "budget")


def strata(prompts: tuple[str, ...]) -> dict[str, list[int]]:
    """Prompts by their background: all, plain (one colour or a gradient), busy (a pattern). The last two
    only for captions of the world that name it."""
    kinds = [parse(text).background for text in prompts]
    groups = {
        "all": list(range(len(prompts))),
        "plain": [i for i, kind in enumerate(kinds) if kind and kind[0] not in PATTERNS],
        "busy": [i for i, kind in enumerate(kinds) if kind and kind[0] in PATTERNS],
    }
    return {name: members for name, members in groups.items() if members}


def compare_regions(results: Results) -> dict[str, list[Comparison]]:
    """Every region row with each kind of rival on every deciding metric, by stratum; adjusted for the number
    of all."""
    pairs: list[tuple[str, Comparison]] = []
    for name, members in strata(results.prompts).items():
        some = restrict(results, members)
        for metric in some.deciding():
            for row in results.of_family(REGION):
                compared = (compare(some, row, kind, metric) for kind in AGAINST)
                pairs += [(name, c) for c in compared if c is not None]
    decided = decide([c for _, c in pairs])
    by_stratum: dict[str, list[Comparison]] = {}
    for (name, _), comparison in zip(pairs, decided, strict=True):
        by_stratum.setdefault(name, []).append(comparison)
    return by_stratum


def restrict(results: Results, members: list[int]) -> Results:
    """The same results on some of the prompts; times are still those of all timed prompts."""
    samples = {
        method: {metric: np.asarray(values)[members] for metric, values in by.items()}
        for method, by in results.samples.items()
    }
    return replace(results, samples=samples, prompts=tuple(results.prompts[i] for i in members))
