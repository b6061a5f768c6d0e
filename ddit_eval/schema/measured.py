"""What a row was measured of, so that only rows of the same thing are put side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from pydantic import Field

from ddit_eval.schema.model import Count, Finite, Json, Result, ResultFile
from ddit_eval.system.files import digest

_NAMES = {"model", "adapter"}  # their hashes decide, not what they are called


class Measured(Result):
    """All that decides the samples of a row: weights, policy and what is beside it, settings, prompts, code.

    `size`: height and width in pixels, and of a clip its frames. `prompts`: the hash of the whole set, of
    which a row may use the first ones only. `code`: of what decides a picture.
    """

    model: str
    model_hash: str
    adapter: str | None
    adapter_hash: str | None
    dtype: str
    policy: Json
    cache: Json | None = None
    scheduler: Json | None = None
    setup: Json | None = None
    steps: Count
    size: tuple[Count, ...]
    guidance_scale: Finite
    true_cfg_scale: Finite
    prompts: str
    code: str

    @property
    def digest(self) -> str:
        """12 hex digits: equal for rows of equal samples."""
        return digest({k: v for k, v in self.plain().items() if k not in _NAMES})


class Stage(ResultFile):
    """A file of results/PROFILE, called `file`. Beside what its rows are measured of, parts of the experiment
    decide it: `decided_by` names them, `asked` says what they were (empty: it is of no experiment)."""

    file: ClassVar[str]
    decided_by: ClassVar[tuple[str, ...]]
    asked: Json = Field(default_factory=dict)


def differences(
    one: Measured,
    other: Measured,
    here: str = "the one",
    there: str = "the other",
    *,
    but: Iterable[str] = (),
) -> list[str]:
    """A sentence for each fact that differs, e.g. "policy.tau is 0.3 in timing.json and 0.4 in quality.json".

    `here`, `there`: what the two are called. `but`: facts that may differ.
    """
    names = [name for name in Measured.model_fields if name not in {*_NAMES, *but}]
    return unlike({n: getattr(one, n) for n in names}, {n: getattr(other, n) for n in names}, here, there)


def unlike(one: Json, other: Json, here: str, there: str) -> list[str]:
    """The same of plain data, of the names that both have."""
    found = [item for name in one if name in other for item in apart(name, one[name], other[name])]
    return [f"{name} is {a!r} in {here} and {b!r} in {there}" for name, a, b in found]


def repeated(names: Iterable[Any]) -> list[Any]:
    """Those that are there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def apart(name: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: within a policy by its parameter, of two kinds of policy the kind alone."""
    if one == other:
        return
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield name, one, other
    elif one.get("kind") != other.get("kind"):
        yield f"{name}.kind", one.get("kind"), other.get("kind")
    else:
        for key in sorted({*one, *other}):
            yield from apart(f"{name}.{key}", one.get(key), other.get(key))
