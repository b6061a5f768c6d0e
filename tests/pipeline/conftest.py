"""All stages once, on a small quick.yaml to which another package adds a metric and a policy."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugins import install
from tests.support.stages import EXPERIMENTS, ROOT, commands


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds runs/, results/ and what each command read and printed; `run` is called twice.

    Made once, whichever worker of a parallel test comes first.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, done = shared / "small", shared / "small.done"
    with open(shared / "small.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run(folder)
            done.touch()
    return folder


def _run(folder: Path) -> None:
    path = os.pathsep.join([str(ROOT), *install(folder / "site")])
    call = [sys.executable, "-m", "tests.support.reads", EXPERIMENTS[0], str(folder), *commands(), "run"]
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
