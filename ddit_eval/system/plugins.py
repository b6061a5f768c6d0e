"""What other packages add to this one, by entry points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ddit_eval.errors import DditError


@cache
def plugins(group: str, needs: Sequence[str], shipped: Sequence[str] = ()) -> dict[str, Any]:
    """The objects that installed packages name under `group`, e.g. "ddit_eval.metrics", by entry point.

    needs: attributes that each must have; shipped: names that are taken (both tuples). Raises `DditError`
    naming entry point, package and what is wrong where one cannot be loaded, lacks an attribute or takes a
    name that ships.
    """
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist else "an unknown package"
        what = f"entry point {point.name!r} of {package} in {group} ({point.value})"
        if point.name in shipped:
            raise DditError(f"{what} takes a name that ships with ddit_eval; choose another")
        try:
            found[point.name] = made = point.load()
        except Exception as error:
            raise DditError(f"{what} cannot be loaded: {error}; mend or uninstall {package}") from error
        if missing := [name for name in needs if not hasattr(made, name)]:
            raise DditError(f"{what} lacks {', '.join(missing)}; see the protocol that {group} documents")
    return found
