"""A worker: claims trials and runs them until none is left, then measures on the held-out prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Study
from ddit_eval.study import confirm, slots
from ddit_eval.study.measure import Evaluator
from ddit_eval.study.space import Rules, Ways
from ddit_eval.study.storage import Location
from ddit_eval.study.trial import run_trial
from ddit_eval.study.trials import finished
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.secret import without_secrets
from ddit_eval.system.workers import beside

if TYPE_CHECKING:
    import optuna

Open = Callable[[], Evaluator]
POLL = 0.2  # seconds between two looks for work that others have to finish first


@contextmanager
def when_needed(open_evaluator: Open) -> Iterator[Open]:
    """An evaluator that is opened when there is something to measure, and not before; closed in the end."""
    with ExitStack() as stack:
        yield cache(lambda: stack.enter_context(closing(open_evaluator())))


def run(
    place: Location,
    space: Study,
    open_evaluator: Open,
    workers: int = 1,
    progress: Progress = quiet,
    ways: Ways | None = None,
) -> optuna.Study:
    """Finish the study with this process and `workers` - 1 more, and return it. ways: what it searches, the
    rules of `space` where not given.

    open_evaluator: called in each worker that has something to measure; picklable where there are several.
    Raises `DditError` where the storage fails; nothing that was told is lost.
    """
    from optuna.exceptions import StorageInternalError

    ways = ways or Rules(space)
    try:
        study = place.open()
        # With nothing left to try, a second process would be slower to start than the rest is to do.
        count = min(workers, max(1, space.trials - len(finished(study, space))))
        children = [(place, space, ways, open_evaluator, (i, count)) for i in range(1, count)]
        with when_needed(open_evaluator) as evaluator:
            with beside(_child, children):
                work(study, space, ways, evaluator, place.artifacts, (0, count), progress=progress)
            # What a worker that died has left.
            work(study, space, ways, evaluator, place.artifacts, progress=progress)
    except StorageInternalError as error:
        why = without_secrets(str(error.__cause__ or error), place.storage)
        raise DditError(f"the study's storage failed ({why}); the same command goes on from there") from None
    progress(space.trials, space.trials, "done")
    return study


def work(
    study: optuna.Study,
    space: Study,
    ways: Ways,
    evaluator: Open,
    artifacts: Path | None = None,
    share: tuple[int, int] = (0, 1),
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = quiet,
) -> None:
    """Run trials until all are finished, then this worker's part of the held-out prompts.

    share: (i, n), this is worker i of n. stop: asked between trials.
    """
    watch = slots.Watch()
    while not stop():
        done = len(finished(study, space))
        progress(done, space.trials, "trials")
        if done == space.trials:
            break
        opened = evaluator()  # before a trial is claimed: the others would wait for it meanwhile
        slots.fail_dead(study, space.trials, watch)
        claimed = slots.claim(study, space)
        if claimed is None:
            time.sleep(POLL)
            continue
        try:
            run_trial(study, space, ways, opened, claimed, artifacts)
        except BaseException:
            slots.give_back(study, claimed.trial, space.trials)
            raise
    points = list(confirm.chosen(study, space).items())[share[0] :: share[1]]
    for number, (slot, trial) in enumerate(points):
        if stop():
            return
        progress(number, len(points), "held-out prompts")
        if confirm.measured(study, space, slot) is None:
            confirm.measure(study, space, ways, slot, trial, evaluator())


def _child(
    place: Location,
    space: Study,
    ways: Ways,
    open_evaluator: Open,
    share: tuple[int, int],
    *,
    stop: Callable[[], bool],
) -> None:
    """A worker in a process of its own."""
    with when_needed(open_evaluator) as evaluator:
        work(place.open(), space, ways, evaluator, place.artifacts, share, stop=stop)
