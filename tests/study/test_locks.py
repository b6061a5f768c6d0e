"""A journal's lock is that of Optuna, and nobody waits for one whose holder is dead."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from ddit_eval.study import locks, slots
from ddit_eval.study.storage import open_storage


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A relative path, as the default is: a link is read from where it lies."""
    monkeypatch.chdir(tmp_path)
    path = Path("below") / "s.journal"
    path.parent.mkdir()
    path.touch()
    return path


def taken(journal: Path, monkeypatch: pytest.MonkeyPatch, **holder: object) -> Path:
    """A lock as another process took it."""
    with monkeypatch.context() as other:
        for name, value in holder.items():
            other.setattr(*((os, name) if name == "getpid" else (slots, name)), lambda *_, v=value: v)
        assert locks.Lock(str(journal)).acquire()
    return journal.with_name("s.journal.lock")


def dead() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def names(journal: Path) -> list[str]:
    return sorted(path.name for path in journal.parent.iterdir())


def test_a_lock_of_the_dead_is_removed_at_once(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = taken(journal, monkeypatch, getpid=dead())
    lock.rename(journal.with_name("s.journal.lock0-1.rename"))  # killed while it gave it back
    taken(journal, monkeypatch, started=1.0)  # another process had our id
    monkeypatch.setattr(time, "sleep", None)
    storage = open_storage(journal)
    assert names(journal) == ["s.journal"]
    storage.create_new_study([])  # takes the lock and gives it back
    assert names(journal) == ["s.journal"]


@pytest.mark.parametrize("holder", [{}, {"place": "0" * 12, "getpid": 1, "started": 1.0}])
def test_a_lock_of_the_living_and_of_other_machines_stays(
    journal: Path, monkeypatch: pytest.MonkeyPatch, holder: dict[str, object]
) -> None:
    lock = taken(journal, monkeypatch, **holder)
    assert lock.samefile(journal)  # Optuna looks through it
    locks.sweep(journal)
    assert lock.is_symlink()
    JournalFileSymlinkLock(str(journal)).release()  # as the dashboard would after its grace
    assert names(journal) == ["s.journal"]


def test_a_lock_of_optuna_stays_while_it_may_be_held(journal: Path) -> None:
    lock = journal.with_name("s.journal.lock")
    for path in (journal, journal.resolve()):
        JournalFileSymlinkLock(str(path)).acquire()
        locks.sweep(journal)
        assert lock.is_symlink()
        os.utime(lock, (0, 0), follow_symlinks=False)
        locks.sweep(journal)
        assert lock.is_symlink() == path.is_absolute()  # else it leads nowhere, and Optuna waits for ever
    lock.unlink()
    JournalFileBackend(str(journal)).append_logs([])
