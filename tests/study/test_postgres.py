"""The study on a real PostgreSQL server: a throw-away cluster on a loopback port."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Study
from ddit_eval.study import export
from ddit_eval.study.storage import Location, open_storage
from ddit_eval.study.worker import run
from tests.support.fake_evaluator import FakeEvaluator, OpenEvaluator
from tests.support.jobs import JOB

OF = JOB.of("0" * 12)
SPACE = Study(
    trials=10, prompts=3, rule=("threshold", "explicit", "budget"), startup=4, confirm=2, floor=30.0
)


def binary(name: str) -> Path | None:
    """A server program, on the path or where Debian puts it."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = [*beside, *([Path(path)] if (path := shutil.which(name)) else [])]
    return found[0] if found else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, control = binary("initdb"), binary("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("no PostgreSQL server here: initdb and pg_ctl are missing")
    # Beside pytest's own folder, which only its user may enter.
    folder = Path(f"/tmp/ddit-postgres-{os.getpid()}")
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*words: str | Path) -> None:
        done = subprocess.run(
            [str(w) for w in words], user=user, cwd=folder, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr + done.stdout

    data = folder / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    try:
        call(initdb, "-D", data, "-U", "ddit", "--auth=trust", "-E", "UTF8", "--no-sync")
        call(control, "-D", data, "-o", options, "-l", folder / "log", "-w", "-t", "200", "start")
        try:
            yield f"postgresql://ddit@127.0.0.1:{port}/postgres"
        finally:
            call(control, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_database_gives_the_same_study_as_a_journal(server: str, tmp_path: Path) -> None:
    one = run(Location(str(tmp_path / "one.journal"), "s"), SPACE, FakeEvaluator)
    expected = json.dumps(export(one, SPACE, OF).plain(), sort_keys=True)
    # Two workers, one of which dies, as two machines would share it.
    open_evaluator = OpenEvaluator(0.02, tmp_path / "log", after=4, spare=os.getpid())
    with pytest.warns(UserWarning, match="worker"):
        shared = run(Location(server, "s"), SPACE, open_evaluator, workers=2)
    assert json.dumps(export(shared, SPACE, OF).plain(), sort_keys=True) == expected
    assert json.dumps(export(Location(server, "s").open(), SPACE, OF).plain(), sort_keys=True) == expected


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(DditError, match=r"postgresql://127\.0\.0\.1:1/x cannot be reached") as caught:
        open_storage("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)
