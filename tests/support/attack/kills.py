"""A command killed right before and right after each of its writes, called again, its files compared.

A write: a file that is opened to write, synced, renamed or removed, a folder made or removed, a commit of
SQLite. Nothing is let out at the end of the killed process: what was not yet handed to the system is lost.
"""

from __future__ import annotations

import builtins
import io
import itertools
import os
import pickle
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch
from mlflow import MlflowClient
from sqlalchemy.engine.default import DefaultDialect

from ddit_eval.experiment.config import WorldPrompts
from ddit_eval.experiment.evaluate import evaluate
from ddit_eval.experiment.generate import generate
from ddit_eval.experiment.time import time_experiment
from ddit_eval.report import Part, build_all
from ddit_eval.study.run import run_study
from ddit_eval.tracking import track
from tests.support.attack.kit import Kit

KILLED = 137
OS = ("replace", "rename", "fsync", "unlink", "remove", "mkdir", "rmdir", "link", "symlink")
LEFT = re.compile(r"\.tmp|write-test|\.lock$|\.rename$")
PEAK = re.compile(rb'"(peak_memory|checksum)": [^,\n]+')  # of the process, and of a file that has it


@dataclass(frozen=True)
class Command:
    """`before`: commands whose files must be there. `left`: what it leaves, in a form to be compared."""

    name: str
    call: Callable[[Path], object]
    before: tuple[str, ...] = ()
    left: Callable[[Path], dict[str, Any]] = field(default=lambda folder: files(folder))


@dataclass
class Outcome:
    """Of a command: boundaries at which it was killed, after how many a second call left the `same` bytes,
    and at how many of these it said that it mended something; `wrong`: a sentence for each of the others."""

    boundaries: int = 0
    same: int = 0
    healed: int = 0
    wrong: list[str] = field(default_factory=list)


def files(folder: Path, without: str = r"$^") -> dict[str, Any]:
    """The bytes of all files, less the process's peak memory and the names that match `without`."""
    names = {p: str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if not p.is_dir()}
    return {n: PEAK.sub(b"", p.read_bytes()) for p, n in names.items() if not re.search(without, n)}


def commands(kit: Kit) -> list[Command]:
    """The seven, on the kit's experiment with one prompt."""
    pipe, one = kit.pipe, kit.experiment.model_copy(update={"prompts": WorldPrompts(count=1)})
    made = ("run", "evaluate")
    return [
        Command("run", lambda f: generate(one, f / "runs/tiny", pipe=pipe)),
        Command("evaluate", lambda f: evaluate(one, f / "runs/tiny", f / "results/tiny"), ("run",)),
        Command("time", lambda f: time_experiment(one, f / "results/tiny/timing.json", pipe=pipe)),
        # The journal has times and process ids; the dashboard's pictures have names at random.
        Command("study", lambda f: run_study(one, f / "results/tiny/study.json", f / ".state", pipe=pipe),
                left=lambda f: files(f, r"\.journal$|artifacts/")),
        Command("train", lambda f: kit.distil(f / "adapter")),
        Command("report", lambda f: build_all(f / "results", [Part("tiny", f / "runs/tiny")]), made),
        Command("track", lambda f: track(f / "results/tiny", f / "runs/tiny", _database(f)),
                (*made, "tables"), logged),
    ]  # fmt: skip


def logged(folder: Path) -> dict[str, Any]:
    """What MLflow shows, less times and ids of runs."""
    client = MlflowClient(_database(folder))
    (shown,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([shown.experiment_id])
    said = {
        str(r.info.run_name): [
            sorted(r.data.params.items()), sorted(r.data.metrics.items()), r.info.status,
            sorted(t for t in r.data.tags.items() if not re.search("commit|loggedImages", t[0])),
            len(client.list_artifacts(r.info.run_id)),
        ] for r in runs
    }  # fmt: skip
    return {"runs": len(runs)} | said


def kill(known: dict[str, Command], name: str, root: Path, stride: int = 1) -> Outcome:
    """Kill a command at every `stride`-th boundary, call it again, and hold what is left against what an
    uninterrupted call leaves."""
    command = known[name]
    start, work, outcome = root / name / "start", root / name / "work", Outcome()
    work.mkdir(parents=True)
    for other in command.before:  # in the same place, for paths may be written down
        _must(known[other].call if other in known else _empty_database, work)
    shutil.move(work, start)

    def fresh() -> Path:
        shutil.rmtree(work, ignore_errors=True)
        return Path(shutil.copytree(start, work))

    _must(command.call, fresh())
    whole = _must(command.left, work)
    for at in itertools.count(1, stride):
        code, *_ = _call(command.call, fresh(), at)
        if code == 0:
            return outcome
        outcome.boundaries += 1
        healed = False
        if code != KILLED:
            wrong = "it failed before it was killed"
        else:
            code, healed, _ = _call(command.call, work)
            wrong = "the second call failed" if code else _apart(whole, _must(command.left, work), work)
        if wrong:
            outcome.wrong.append(f"boundary {at}: {wrong}")
        else:
            outcome.same, outcome.healed = outcome.same + 1, outcome.healed + healed
    raise AssertionError


def _apart(whole: dict[str, Any], left: dict[str, Any], work: Path) -> str:
    litter = [n for p in work.rglob("*") if LEFT.search(n := str(p.relative_to(work))) and n not in whole]
    names = sorted(n for n in {*whole, *left} - {*litter} if whole.get(n) != left.get(n))
    said = [(names, "differ"), (litter, "left behind")]
    return "; ".join(f"{', '.join(some[:3])} {what}" for some, what in said if some)


def _must(call: Callable[[Path], Any], folder: Path) -> Any:
    code, _, found = _call(call, folder)
    if code:
        raise RuntimeError("the uninterrupted command fails")
    return found


def _call(call: Callable[[Path], Any], folder: Path, at: int | None = None) -> tuple[int, bool, Any]:
    """Of a fork that calls it, killed at a boundary: the exit code, whether it warned, what it returned."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            with warnings.catch_warnings(record=True) as told, os.fdopen(write, "wb") as pipe:
                warnings.simplefilter("always", UserWarning)
                _count_time()
                _watch(at)
                found = call(folder)
                pickle.dump((any("ddit_eval" in w.filename for w in told), found), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (code, *(pickle.loads(data) if data and not code else (False, None)))


def _watch(at: int | None) -> None:
    """From now on, count boundaries, and end this process at the `at`-th."""
    count = itertools.count(1)

    def passing() -> None:
        if next(count) == at:
            os._exit(KILLED)

    def around(owner: Any, name: str, writes: Callable[..., bool] = lambda *a, **k: True) -> None:
        plain = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if not writes(*args, **kwargs):
                return plain(*args, **kwargs)
            passing()
            found = plain(*args, **kwargs)
            passing()
            return found

        setattr(owner, name, watched)

    def to_write(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> bool:
        return bool(set(str(mode)) & set("wax+")) and file != os.devnull

    for name in OS:
        around(os, name)
    around(os, "open", lambda path, flags, *a, **k: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    for module in (builtins, io):
        around(module, "open", to_write)
    around(safetensors.torch, "serialize_file")
    around(DefaultDialect, "do_commit")


def _count_time() -> None:
    """A clock that counts its readings: what is measured twice is measured alike, and waiting is short."""
    time.sleep = lambda seconds: None
    time.perf_counter = itertools.count(1.0).__next__
    time.monotonic = itertools.count(1.0).__next__
    time.process_time = itertools.count(1.0).__next__
    psutil.getloadavg = lambda: (0.0, 0.0, 0.0)


def _empty_database(folder: Path) -> None:
    """MLflow's tables, which take seconds to make."""
    MlflowClient(_database(folder)).search_experiments()


def _database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"
