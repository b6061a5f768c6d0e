"""What a command imports, by its source: every module of the package that may decide its result.

Imports inside functions count, those for the type checker alone do not. Where a module imports by name
(`import_module`), everything in its folder counts. `ddit_eval.cli` is left out: it reads arguments and
prints.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "ddit_eval"


def files_of(command: Callable[..., None]) -> set[str]:
    """Paths, relative to the repository, of the modules that a function of `ddit_eval.cli` leads to."""
    todo, seen = _of_function(command), set[str]()
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo |= _of_module(module) - seen
    return {str(path.relative_to(ROOT)) for module in seen if (path := _file(module))}


def imports(tree: ast.AST) -> dict[str, set[str]]:
    """By the name that it binds: the modules of the package that an import anywhere in `tree` reads."""
    bound: dict[str, set[str]] = {}
    for node in _run(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound.setdefault(alias.asname or alias.name, set()).update(_with_parents(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"  # noqa: PT018
            for alias in node.names:
                names = _with_parents(f"{node.module}.{alias.name}") | _with_parents(node.module)
                bound.setdefault(alias.asname or alias.name, set()).update(names)
    return bound


def _of_function(function: Callable[..., None]) -> set[str]:
    """What a function of a command imports, names of its module that it uses included."""
    module = inspect.getmodule(function)
    assert module is not None
    above = imports(
        ast.Module([n for n in _tree(module.__name__).body if not isinstance(n, ast.FunctionDef)], [])
    )
    todo, seen, modules = [function], set[str](), set[str]()
    while todo:
        tree = ast.parse(textwrap.dedent(inspect.getsource(todo.pop())))
        modules |= set().union(*imports(tree).values())
        for name in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - seen:
            seen.add(name)
            modules |= above.get(name, set())
            other = getattr(module, name, None)
            if inspect.isfunction(other) and other.__module__ == module.__name__:
                todo.append(other)
    return {name for name in modules if not name.startswith(f"{PACKAGE}.cli")}


@cache
def _of_module(module: str) -> set[str]:
    tree = _tree(module)
    modules: set[str] = set().union(*imports(tree).values())
    by_name = any(isinstance(node, ast.Name) and node.id == "import_module" for node in ast.walk(tree))
    if by_name and module != PACKAGE:  # the package's own names are for those who use it from outside
        folder = path.parent if (path := _file(module)) else ROOT
        for file in folder.rglob("*.py"):
            modules |= _with_parents(
                ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            )
    return modules


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _run(child)


def _with_parents(name: str) -> set[str]:
    """The module and the packages around it, as far as they are files of this package."""
    parts = name.split(".")
    names = {".".join(parts[: i + 1]) for i in range(len(parts))} if parts[0] == PACKAGE else set()
    return {module for module in names if _file(module)}


@cache
def _file(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"))
