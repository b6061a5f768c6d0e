"""Families of rows: what each does to be faster, as verdicts, tables and figures name it."""

from __future__ import annotations

from typing import Any

from ddit_eval.schema.quality import Row

METHOD, STEPS, BASE, NULL = "DDiT", "fewer steps", "base", "base again (null)"
CACHE, SOLVER, SKIP, SETUP, MIXED = "cache", "another solver", "skipped steps", "set up", "mixed plan"
STATIC = "static coarse"
RIVALS = (SOLVER, CACHE, SKIP, SETUP, MIXED)  # kinds that an experiment need not have

# Of legends and choices; families of others come last.
ORDER = (BASE, NULL, STEPS, *RIVALS[:-1], STATIC, "random", MIXED, METHOD)
# In a sentence, as its subject.
SAID = {
    SOLVER: "another solver", CACHE: "a cache", SKIP: "skipping steps", SETUP: "a pipeline set up otherwise",
    MIXED: "a mixed plan",
}  # fmt: skip


def family_of(row: Row, reference: Row) -> str:
    """Its policy's family; fixed plans that skip steps and rows that run the base are told apart further."""
    if row.skipped_share > 0 and row.family in (STATIC, SKIP):
        return MIXED if row.coarse_share > 0 else SKIP
    if row.family != BASE:
        return row.family
    if row.method == reference.method:
        return BASE
    if added := [name for field, name in (("setup", SETUP), ("cache", CACHE), ("scheduler", SOLVER))
                 if has(row, field) and has(reference, field) != has(row, field)]:  # fmt: skip
        return added[0]
    return NULL if row.steps == reference.steps else STEPS


def has(row: Row, field: str) -> Any:
    """What a row was measured with beside policy and steps: its `cache`, `scheduler` or `setup`."""
    return getattr(row.of, field)


def accelerated(row: Row, reference: Row) -> bool:
    """Whether a row costs less than the base: by FLOPs, or by what they do not count."""
    if family_of(row, reference) in (BASE, NULL):
        return False
    skips = row.coarse_share > 0 or row.skipped_share > 0
    return skips or row.flop_ratio > 1.001 or bool(has(row, "cache") or has(row, "setup"))


def in_order(families: list[str]) -> list[str]:
    """Each once, by `ORDER`, then as they come."""
    names = list(dict.fromkeys(families))
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
