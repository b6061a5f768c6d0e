"""A row's cache and scheduler in effect, and whether a model can run them at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.models.cost import transformer_of
from ddit_eval.models.find import locate, remedy
from ddit_eval.models.parts import classes, pipeline_class
from ddit_eval.rivals import caches, schedulers, setups
from ddit_eval.rivals.row import Mag, Rival
from ddit_eval.system.read import read_object
from ddit_eval.system.text import one_line


@contextmanager
def ready(pipe: Any, rival: Rival, calls: int, steps: int, ratios: caches.Ratios) -> Iterator[None]:
    """`pipe` with a row's scheduler and cache while the context is open. calls: of a step."""
    with ExitStack() as stack:
        if rival.scheduler:
            stack.enter_context(schedulers.solved(pipe, rival.scheduler))
        if rival.cache:
            length = rival.calls(steps)
            stack.enter_context(caches.cached(pipe, rival.cache, calls, length, ratios))
        yield


@contextmanager
def blamed(method: str, rival: Rival) -> Iterator[None]:
    """Tell in one line what a call fails of while a row's cache or setup is in effect."""
    try:
        yield
    except DditError:
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        why = one_line(error)
        if "memory" in why or "can't allocate" in why or not (rival.cache or rival.setup):
            raise
        raise DditError(f"method {method!r} fails with {', '.join(rival.beside)}: {why}") from error


def uncalibrated(rival: Rival) -> bool:
    """Whether ratios of MagCache have to be measured first."""
    return isinstance(rival.cache, Mag) and not rival.cache.mag_ratios


def check(model: str, rival: Rival, calls: int, steps: int) -> None:
    """Refuse what a model cannot run. Reads configurations, loads no weights.

    Raises `DditError` of one line that says why.
    """
    folder = locate(model)
    parts = classes(folder, remedy(model)) if rival.cache or rival.scheduler else {}
    if rival.scheduler and (kind := parts.get("scheduler")):
        config = read_object(folder / "scheduler" / "scheduler_config.json", remedy(model))
        if why := schedulers.why_not(kind, config):
            raise DditError(f"scheduler {rival.scheduler.kind} cannot run here: {why}")
    if rival.cache:
        pipeline, length = pipeline_class(folder, remedy(model)), rival.calls(steps)
        bare = transformer_of(model)
        caches.enable(bare, rival.cache, pipeline, None, calls, length, [1.0])
    if rival.setup:
        setups.resolve(rival.setup)
