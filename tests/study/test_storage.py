"""Where trials are kept: what is damaged is dropped or named, and a kill at a write leaves no mark."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Study
from ddit_eval.study import export, slots, worker
from ddit_eval.study.run import study_key
from ddit_eval.study.storage import Location, open_storage
from tests.support.fake_evaluator import FakeEvaluator
from tests.support.jobs import JOB

SPACE = Study(trials=4, prompts=2, rule=("threshold", "explicit", "base"), startup=2, generation=2, confirm=2)


def ended(path: Path) -> str:
    study = worker.run(Location(str(path), "s"), SPACE, FakeEvaluator)
    return json.dumps(export(study, SPACE, JOB.of("0" * 12)).plain(), sort_keys=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A finished journal, and what it says."""
    path = tmp_path_factory.mktemp("whole") / "s.journal"
    said = ended(path)
    return path.read_bytes(), said


class Killed(BaseException):
    pass


@pytest.mark.filterwarnings("ignore:the last line")
def test_killed_at_any_write_it_ends_as_if_it_had_not_been(
    whole: tuple[bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, left, life = tmp_path / "s.journal", 0, 0

    def fsync(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.truncate(path, path.stat().st_size - life % 2 * 9)  # every other one tears its last line
            raise Killed

    monkeypatch.setattr(slots, "started", lambda pid=None: 100.0 * life)  # each life is another process
    monkeypatch.setattr(slots, "GRACE", 0)
    monkeypatch.setattr(worker, "POLL", 0)
    monkeypatch.setattr("ddit_eval.study.storage.check_writable", lambda folder: None)
    monkeypatch.setattr(os, "fsync", fsync)
    for life in count():
        left = 3 * life + life % 5
        try:
            said = ended(path)
            break
        except Killed:
            Path(f"{path}.lock").unlink(missing_ok=True)
    assert life > 5
    assert said == whole[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d[:-9],
        lambda d: d[:-9] + b"\n",
        lambda d: d + b'{"op_c',
        lambda d: d + b"\0" * 99,
        lambda d: b"",
    ],
)
def test_what_a_kill_leaves_at_the_end_is_dropped_and_said(
    whole: tuple[bytes, str],
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "started", lambda pid=None: 1.0)  # not the process that wrote it
    path = tmp_path / "s.journal"
    # Up to where a trial is told its values, so that there is more to write.
    told = whole[0].rindex(b'{"op_code":6')
    data = change(whole[0][: whole[0].index(b"\n", told) + 1])
    path.write_bytes(data)
    if data:
        with pytest.warns(UserWarning, match=r"the last line of .*s\.journal was torn"):
            open_storage(path).set_study_user_attr(0, "any", 1)
    assert ended(path) == whole[1]


@pytest.mark.parametrize(
    "line", [b'{"half', b"[]", b"null", b"\xff", b'{"op_code":5}', b'{"op_code":[],"worker_id":""}',
             b'{"op_code": 5, "trial_id": 0, "crc": "00000000"}'],
)  # fmt: skip
def test_damage_in_the_middle_is_named_with_its_line(
    whole: tuple[bytes, str], tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.journal"
    lines = whole[0].split(b"\n")
    path.write_bytes(b"\n".join([*lines[:7], line, *lines[8:]]))
    with pytest.raises(DditError, match=r"s\.journal, line 8, is damaged.*head -n 7"):
        open_storage(path)
    path.write_bytes(b"\n".join(lines[:7]) + b"\n")  # the remedy
    monkeypatch.setattr(slots, "GRACE", 0.0)
    monkeypatch.setattr(slots, "started", lambda pid=None: 1.0)
    assert ended(path) == whole[1]


def test_a_flipped_bit_is_damage(whole: tuple[bytes, str], tmp_path: Path) -> None:
    data = bytearray(whole[0])
    at = data.index(b'"values":[0.') + len(b'"values":[0.')
    data[at] ^= 1  # another digit: it still reads as a number
    (tmp_path / "s.journal").write_bytes(data)
    with pytest.raises(DditError, match=r"s\.journal, line \d+, is damaged"):
        open_storage(tmp_path / "s.journal")


@pytest.mark.parametrize("kind", ["text", "folder", "pipe", "garbage", "newer", "scheme", "port"])
def test_a_storage_that_is_none_is_one_line_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("s.db" if kind in ("garbage", "newer") else "s.journal")
    where = f"sqlite:///{path}" if path.suffix == ".db" else str(path)
    if kind == "text":
        path.write_text("dear diary")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "garbage":
        path.write_bytes(b"no database" * 99)
    elif kind == "newer":
        open_storage(where)
        with sqlite3.connect(path) as database:
            database.execute("update version_info set schema_version = 99")
            database.execute("update alembic_version set version_num = 'v9.9.9'")
        database.close()
    else:
        where = {"scheme": "nope://x", "port": "postgresql://h:abc/x"}[kind]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DditError) as caught:
        open_storage(where)
    assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_journal_goes_into_a_journal_alone(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"study\.db is neither"):
        open_storage(tmp_path / "study.db")
    assert open_storage(f"sqlite:///{tmp_path / 'study.db'}").get_all_studies() == []


def test_the_dead_are_told_from_the_living_whatever_the_time_of_day(tmp_path: Path) -> None:
    study = Location(str(tmp_path / "s.journal"), "s").open()
    slots.fill(study, 4)
    space, watch = Study(trials=4), slots.Watch()
    first, second = slots.claim(study, space), slots.claim(study, space)
    assert first is not None
    assert second is not None
    assert (first.slot, second.slot) == (0, 1)
    trial = first.trial._trial_id

    def dead(now: float) -> bool:
        return watch.is_dead(slots.slots(study)[0], now)

    def says(**attrs: Any) -> None:
        for name, value in attrs.items():
            study._storage.set_trial_user_attr(trial, name, value)

    assert not dead(1e6)  # this process lives, however long it takes
    says(worker={"place": slots.place(), "pid": os.getpid(), "started": 1.0})
    assert dead(0)  # another process had this id
    # On another machine, whose clock is an hour off: only that it goes on counts.
    says(worker={"place": "elsewhere", "pid": 1, "started": 1.0}, heartbeat=-3600.0)
    assert not dead(0)
    assert not dead(slots.LEASE)
    says(heartbeat=-3570.0)
    assert not dead(slots.LEASE + 1)
    assert not dead(2 * slots.LEASE)
    assert dead(2 * slots.LEASE + 2)
    says(worker=None)
    assert not dead(0)
    assert dead(slots.GRACE + 1)
    says(worker={"place": slots.place(), "pid": os.getpid(), "started": 1.0})
    slots.fail_dead(study, 4, watch)
    again = slots.slots(study)[0]
    assert (again.state.name, again.number) == ("WAITING", 4)


def test_other_prompts_in_the_same_file_are_another_study(tiny: Any, tmp_path: Path) -> None:
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.study.measure import prompt_sets

    path, keys = tmp_path / "prompts.txt", set()
    for text in ("a\nb\nc\n", "a\nd\nc\n", "a\nb\nd\n"):
        path.write_text(text)
        setting = Setting(
            tiny.experiment(prompts={"source": "file", "path": str(path)}, study={"prompts": 2})
        )
        keys.add(study_key(setting, prompt_sets(setting)[0]))
    assert len(keys) == 3
