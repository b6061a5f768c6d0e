"""Several patch sizes in one step against one size a step and the simple controls, by kind of prompt.

A region rule has something to gain where a picture has both calm and busy places, so plain and busy prompts
are told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ddit_eval.judging.controls import STEPS, Comparison, compare, holm, signed
from ddit_eval.judging.results import Results
from ddit_eval.report.blocks import Block, Table, Text
from ddit_eval.world.caption import parse
from ddit_eval.world.motion import PATTERNS

AGAINST = {
    STEPS: "fewer steps",
    "coarse-first": "coarse-first",
    "threshold": "one size a step by threshold",
    "budget": "one size a step by budget",
}

DECISIONS = ("better", "worse", "undecided")


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


def compare_regions(results: Results) -> Iterator[tuple[str, Comparison]]:
    """(stratum, comparison) of every region row with each kind of rival on every deciding metric."""
    rows = [r for r in results.rows if results.family(r) == "region"]
    for name, members in strata(results.prompts).items():
        some = restrict(results, members)
        for metric in some.deciding():
            for row in rows:
                for kind in AGAINST:
                    if (found := compare(some, row, kind, metric)) is not None:
                        yield name, found


def restrict(results: Results, members: list[int]) -> Results:
    """The same results on some of the prompts; times are still those of all timed prompts."""
    samples = {
        method: {metric: np.asarray(values)[members] for metric, values in by.items()}
        for method, by in results.samples.items()
    }
    return replace(results, samples=samples, prompts=tuple(results.prompts[i] for i in members))


def region_blocks(results: Results) -> list[Block]:
    """Empty where no row has regions."""
    found = list(compare_regions(results))
    if not found:
        return []
    adjusted = holm([c for _, c in found])
    rows = [
        [
            c.method,
            stratum,
            AGAINST[c.kind],
            f"{c.control} at {c.control_speed:.2f}x",
            signed(c.gain, c.metric),
            str(c.gain.n),
            f"{adjusted[c]:.3f}" if c in adjusted else "–",
            c.outcome,
        ]
        for stratum, c in found
    ]
    note = (
        "Gain is paired by prompt and positive where the region rule is better; fewer steps is interpolated "
        "at its speed-up. Busy: a striped, checkered or noisy background. Speed-ups are those of all timed "
        "prompts."
    )
    head = ["method", "prompts", "against", "row", "gain", "N", "p (Holm)", "outcome"]
    return [Text(summary(found)), Text(note), Table(head, rows)]


def summary(found: list[tuple[str, Comparison]]) -> str:
    """One sentence a stratum: how often regions win and lose against each rival at equal time."""
    sentences = []
    for stratum in dict.fromkeys(name for name, _ in found):
        rivals: dict[str, Counter[str]] = {}
        for name, c in found:
            if name == stratum and c.outcome in DECISIONS:
                rivals.setdefault(AGAINST[c.kind], Counter())[c.outcome] += 1
        said = [
            f"against {rival} " + ", ".join(f"{d} in {n[d]}" for d in DECISIONS if n[d])
            for rival, n in rivals.items()
        ]
        text = "; ".join(said) if said else "no rival at comparable time"
        sentences.append(f"Regions on {stratum} prompts, by comparisons: {text}.")
    return " ".join(sentences)
