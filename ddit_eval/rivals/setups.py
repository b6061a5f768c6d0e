"""A function of the user's that sets a pipeline up: found, called, and undone where it says how."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from operator import attrgetter
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.rivals import remains
from ddit_eval.rivals.caches import transformers_of
from ddit_eval.rivals.row import Setup
from ddit_eval.system.plugins import plugins, source_of
from ddit_eval.system.text import one_line

GROUP = "ddit_eval.rivals"
REMEDY = "return a function that undoes it"


def resolve(setup: Setup) -> Callable[..., Any]:
    """The function that a setup names: `module:function`, as `python -m` would see it, or an entry point.

    Raises `DditError` of one line where it is not there or cannot be called.
    """
    found = _imported(setup.call) if ":" in setup.call else _entry_point(setup.call)
    if not callable(found):
        raise DditError(f"setup {setup.call!r} is {found!r:.60}, which cannot be called; name a function")
    try:
        inspect.signature(found).bind(object(), **setup.with_)
    except TypeError as error:
        given = f" and {', '.join(setup.with_)}" if setup.with_ else ""
        raise DditError(f"setup {setup.call!r} cannot be called with a pipeline{given}: {error}") from None
    except ValueError:  # of what is written in C nothing is known
        pass
    return found


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return attrgetter(path)(import_module(module))
    except (Exception, SystemExit) as error:
        why = one_line(error)
        raise DditError(f"setup {name!r} cannot be imported: {why}; write package.module:function") from None
    finally:
        sys.path.remove(here)


def _entry_point(name: str) -> Any:
    known = plugins(GROUP, ())
    if name not in known:
        there = f"installed are {', '.join(sorted(known))}" if known else "none is installed"
        what = f"no entry point of {GROUP} has this name ({there})"
        raise DditError(f"setup {name!r}: {what}; or write module:function")
    return known[name]


def sources(setup: Setup) -> list[str]:
    """What decides what a setup does, as far as it can be known: its source, and its package's version."""
    function = resolve(setup)
    top = str(getattr(function, "__module__", "")).partition(".")[0]
    return [source_of(function) or "", *_versions(top)]


@lru_cache(maxsize=8)
def _versions(top: str) -> list[str]:
    return [f"{name} {version(name)}" for name in sorted({*packages_distributions().get(top, ())})]


def call(setup: Setup, pipe: Any) -> Callable[[], Any] | None:
    """Set `pipe` up; what undoes it, or None. Raises `DditError` where the function fails."""
    function = resolve(setup)
    undo = _guarded(setup, "failed", lambda: function(pipe, **setup.with_))
    if undo is not None and not callable(undo):
        raise DditError(f"setup {setup.call!r} returned {undo!r:.60}; return None, or {REMEDY[7:]}")
    return undo


def _guarded(setup: Setup, what: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except DditError:
        raise
    except (Exception, SystemExit) as error:
        raise DditError(f"setup {setup.call!r} {what}: {one_line(error)}") from error


@contextmanager
def set_up(pipe: Any, setup: Setup) -> Iterator[None]:
    """A setup that can be undone, in effect while the context is open.

    Raises `DditError` naming what it leaves behind.
    """
    before, transformers = remains.State(pipe), transformers_of(pipe)
    undo = call(setup, pipe)
    try:
        if transformers_of(pipe) != transformers:
            raise DditError(
                f"setup {setup.call!r} puts another transformer into the pipeline of all rows; return None, "
                "and its row gets a pipeline of its own"
            )
        yield
    finally:
        if undo is not None:
            _guarded(setup, "cannot be undone", undo)
    refuse(setup, before.left(pipe))


def tried(pipe: Any, setup: Setup) -> bool:
    """Set `pipe` up, and undo it where the function says how: whether it did. What shows on other
    pipelines must be as before either way.

    Raises `DditError` where something is left that would change other rows.
    """
    before = remains.State(pipe)
    undo = call(setup, pipe)
    if undo is None:
        refuse(setup, before.left(None))
        return False
    _guarded(setup, "cannot be undone", undo)
    refuse(setup, before.left(pipe))
    return True


def refuse(setup: Setup, left: list[str]) -> None:
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise DditError(f"setup {setup.call!r} leaves behind for other rows: {left[0]}{more}; {REMEDY}")
