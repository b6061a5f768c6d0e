"""Families of rows: what each does to be faster, as verdicts, tables and figures name it."""

from __future__ import annotations

from typing import Any

from ddit_eval.schema.quality import Row

METHOD, STEPS, BASE, NULL = "DDiT", "fewer steps", "base", "base again (null)"
CACHE, SOLVER, SKIP, SETUP, MIXED = "cache", "another solver", "skipped steps", "set up", "mixed plan"
STATIC = "static coarse"
_ADDED = {"setup": "a setup", "cache": "a cache", "scheduler": "another solver"}
RIVALS = (SOLVER, CACHE, SKIP, SETUP, MIXED)  # kinds that an experiment need not have

# Of legends and choices; families of others come last.
ORDER = (BASE, NULL, STEPS, *RIVALS[:-1], STATIC, "random", MIXED, METHOD)
# In a sentence, as its subject.
SAID = {
    SOLVER: "another solver", CACHE: "a cache", SKIP: "skipping steps", SETUP: "a pipeline set up otherwise",
    MIXED: "a mixed plan",
}  # fmt: skip


def family_of(row: Row, reference: Row) -> str:
    """Its policy's family; fixed plans that skip steps and rows that run the base are told apart further. A
    policy of coarse patches with something beside it is no longer of that policy's: "DDiT with a cache"."""
    if (family := _of_policy(row)) != BASE:
        return f"{family} with {_ADDED[added[0]]}" if (added := combined(row, reference)) else family
    if row.method == reference.method:
        return BASE
    if added := _added(row, reference):
        return {"setup": SETUP, "cache": CACHE, "scheduler": SOLVER}[added[0]]
    return NULL if row.steps == reference.steps else STEPS


def combined(row: Row, reference: Row) -> list[str]:
    """What a policy of coarse patches has beside it that the base has not; of other rows nothing."""
    return [] if _of_policy(row) in (BASE, SKIP) else _added(row, reference)


def _of_policy(row: Row) -> str:
    if row.skipped_share > 0 and row.family in (STATIC, SKIP, MIXED):
        return MIXED if row.coarse_share > 0 else SKIP
    return row.family


def _added(row: Row, reference: Row) -> list[str]:
    return [field for field in _ADDED if has(row, field) and has(reference, field) != has(row, field)]


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
    """Each once, by `ORDER`, then as they come; one with something beside it follows its own."""
    names = list(dict.fromkeys(families))
    own = {name: name.partition(" with ")[0] for name in names}
    place = {name: ORDER.index(own[name]) if own[name] in ORDER else len(ORDER) for name in names}
    return sorted(names, key=lambda name: (place[name], name != own[name]))
