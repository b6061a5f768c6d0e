"""Who runs which trial: claims in the storage itself, so that no two workers run the same one.

A trial of ours has a `slot`, its number in the study. The storage hands out numbers of its own: a trial whose
worker died is failed and its slot filled anew. What Optuna changes atomically (a new trial's number, waiting
to running, running to finished) is all that this builds on.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ddit_eval.experiment.config import Study

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

GRACE = 30.0  # seconds in which a new owner leaves its name
LEASE = 900.0  # seconds without a new sign of life after which a worker on another machine is taken for dead
HEARTBEAT = 30.0  # seconds between two signs of life
CLOCK = 5.0  # by how much a system may tell the start of one process differently


@dataclass(frozen=True)
class Claim:
    """A trial that is ours to run: its slot, and the trials of earlier generations, in order."""

    slot: int
    trial: FrozenTrial
    earlier: list[FrozenTrial]


def slots(study: optuna.Study) -> dict[int, FrozenTrial]:
    """The trial of each slot that is filled, by slot: of several the oldest, failed ones left out."""
    trials = study.get_trials(deepcopy=False)
    ours = [t for t in trials if "slot" in t.user_attrs and t.state.name != "FAIL"]
    by_slot: dict[int, FrozenTrial] = {}
    for trial in sorted(ours, key=lambda t: t.number):
        by_slot.setdefault(trial.user_attrs["slot"], trial)
    return dict(sorted(by_slot.items()))


def fill(study: optuna.Study, trials: int) -> None:
    """Add a waiting trial to each empty slot below `trials`.

    Two machines that start in the same moment may both do so; the younger twin is then never run.
    """
    there = slots(study)
    for slot in range(trials):
        if slot not in there:
            study.add_trial(waiting(slot))


def waiting(slot: int) -> FrozenTrial:
    """A trial that waits for a worker, its parameters yet to be sampled."""
    import optuna

    return optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, user_attrs={"slot": slot})


def earlier(space: Study, there: Mapping[int, FrozenTrial], slot: int) -> list[FrozenTrial] | None:
    """The trials of the generations before that of `slot`, in order; None while one is not finished."""
    before = [there.get(s) for s in range(slot - slot % space.generation)]
    done = [trial for trial in before if trial is not None and trial.state.is_finished()]
    return done if len(done) == len(before) else None


def claim(study: optuna.Study, space: Study) -> Claim | None:
    """Take the first slot that is free and whose earlier generations are finished; None: there is none."""
    from optuna.trial import TrialState

    there = slots(study)
    for slot, trial in there.items():
        if slot >= space.trials or trial.state != TrialState.WAITING:
            continue
        before = earlier(space, there, slot)
        if before is None:
            return None
        if not _change(study, trial, TrialState.RUNNING):
            continue  # another worker was faster
        set_attr = study._storage.set_trial_user_attr
        set_attr(trial._trial_id, "worker", {"place": place(), "pid": os.getpid(), "started": started()})
        set_attr(trial._trial_id, "heartbeat", time.time())
        if slots(study)[slot].number == trial.number:
            return Claim(slot, trial, before)
        _change(study, trial, TrialState.FAIL)  # its twin is older
    return None


def give_back(study: optuna.Study, trial: FrozenTrial, trials: int) -> None:
    """Fail a trial that cannot be finished, and fill its slot anew."""
    from optuna.trial import TrialState

    if _change(study, trial, TrialState.FAIL):
        fill(study, trials)


def fail_dead(study: optuna.Study, trials: int, watch: Watch) -> None:
    """Give back the trials of dead workers, and fill slots that a kill left empty."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "slot" in trial.user_attrs and watch.is_dead(trial, time.monotonic()):
            _change(study, trial, TrialState.FAIL)
    fill(study, trials)


class Watch:
    """Tells dead workers from living ones: on this machine by the process itself, else by how long there was
    no new sign of life, on this process's own clock. A system's clock may be set, and two never agree."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}  # by trial: its last sign of life, and when it was new

    def is_dead(self, trial: FrozenTrial, now: float) -> bool:
        """Whether the worker of a running trial is gone. `now`: seconds of any clock that only goes on."""
        owner = trial.user_attrs.get("worker")
        if owner is not None and owner["place"] == place():
            return gone(owner["pid"], owner["started"])
        sign = owner, trial.user_attrs.get("heartbeat")
        before, since = self._seen.get(trial._trial_id, (None, now))
        if sign != before:
            self._seen[trial._trial_id] = sign, now
            return False
        return now - since > (GRACE if owner is None else LEASE)


@lru_cache(maxsize=1)
def place() -> str:
    """12 hex digits of what a process id is unique in: host, boot, and process namespace."""
    parts = [socket.gethostname(), str(psutil.boot_time())]
    with suppress(OSError):  # Linux only; the boot time above may waver there
        parts[1] = Path("/proc/sys/kernel/random/boot_id").read_text()
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def started(pid: int | None = None) -> float | None:
    """When a process (by default this one) started, which tells it from a later one with its id: clock ticks
    since boot on Linux, whatever the time of day is set to. None where it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with suppress(OSError):
            return float(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        return process.create_time()
    except psutil.NoSuchProcess:
        return None


def gone(pid: int, start: float) -> bool:
    """Whether a process of this machine is no more: its id is free, or another's, with another `start`."""
    now = started(pid)
    return now is None or abs(now - start) > CLOCK


def _change(study: optuna.Study, trial: FrozenTrial, state: TrialState) -> bool:
    """Whether it was us who changed the trial's state."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        return study._storage.set_trial_state_values(trial._trial_id, state)
    except UpdateFinishedTrialError:
        return False
