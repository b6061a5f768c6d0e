"""What a row was measured of, so that only rows of the same thing are put side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ddit_eval.schema.model import Json, Result
from ddit_eval.system.files import digest

_NAMES = {"model", "adapter"}  # their hashes decide, not what they are called


class Measured(Result):
    """All that decides the samples of a row: weights, policy and settings, prompts, code.

    `size`: height and width in pixels, and of a clip its frames. `prompts`: the hash of the whole set, of
    which a row may use the first ones only. `code`: of what decides a picture.
    """

    model: str
    model_hash: str
    adapter: str | None
    adapter_hash: str | None
    dtype: str
    policy: Json
    steps: int
    size: tuple[int, ...]
    guidance_scale: float
    true_cfg_scale: float
    prompts: str
    code: str

    @property
    def digest(self) -> str:
        """12 hex digits: equal for rows of equal samples."""
        return digest({k: v for k, v in self.plain().items() if k not in _NAMES})


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
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in names)
    apart = [item for pair in pairs for item in _apart(*pair)]
    return [f"{name} is {a!r} in {here} and {b!r} in {there}" for name, a, b in apart]


def _apart(name: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: within a policy by its parameter, of two kinds of policy the kind alone."""
    if one == other:
        return
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield name, one, other
    elif one.get("kind") != other.get("kind"):
        yield f"{name}.kind", one.get("kind"), other.get("kind")
    else:
        for key in sorted({*one, *other}):
            yield from _apart(f"{name}.{key}", one.get(key), other.get(key))
