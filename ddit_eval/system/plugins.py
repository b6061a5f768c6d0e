"""What other packages add to this one, by entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from ddit_eval.errors import DditError
from ddit_eval.system.text import one_line

# The name of an entry point and what it names, to a sentence that says what is wrong with it, or "".
Check: TypeAlias = Callable[[str, Any], str]


@cache
def plugins(
    group: str,
    needs: Sequence[str],
    shipped: Sequence[str] = (),
    check: Check = lambda name, made: "",
) -> dict[str, Any]:
    """The objects that installed packages name under `group`, e.g. "ddit_eval.metrics", by entry point.

    needs: attributes that each must have; shipped: names that are taken (both tuples). Raises `DditError`
    naming entry point, package and what is wrong where one cannot be loaded, lacks an attribute, fails the
    check or takes a name that is taken.
    """
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist else "an unknown package"
        what = f"entry point {point.name!r} of {package} in {group} ({point.value})"
        if point.name in shipped or point.name in found:
            owner = "ships with ddit_eval" if point.name in shipped else "another package has"
            raise DditError(f"{what} takes a name that {owner}; choose another")
        try:
            found[point.name] = made = point.load()
        except (Exception, SystemExit) as error:
            why = one_line(error)
            raise DditError(f"{what} cannot be loaded: {why}; mend or uninstall {package}") from error
        if missing := [name for name in needs if not hasattr(made, name)]:
            raise DditError(f"{what} lacks {', '.join(missing)}; see the protocol that {group} documents")
        if wrong := check(point.name, made):
            raise DditError(f"{what}: {wrong}; see the protocol that {group} documents")
    return found


def source_of(thing: object) -> str | None:
    """The Python source of the package, or of the single module, that defines a class or a function, or that
    of an object; of a package without an __init__.py that of the module.

    None of what ships with ddit_eval, and of what was typed in.
    """
    home = getattr(thing if callable(thing) and hasattr(thing, "__name__") else type(thing), "__module__", "")
    top = home.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None) or getattr(sys.modules.get(home), "__file__", None)
    if top == __name__.partition(".")[0] or file is None:
        return None
    root = Path(file)
    paths = sorted(root.parent.rglob("*.py")) if root.name == "__init__.py" else [root]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)
