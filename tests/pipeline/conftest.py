"""All stages once, on a small quick.yaml to which another package adds a metric and a policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugins import install
from tests.support.stages import EXPERIMENTS, ROOT, commands


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds runs/, results/ and what each command read and printed; `run` is called twice."""
    folder = tmp_path_factory.mktemp("small")
    path = os.pathsep.join([str(ROOT), *install(folder / "site")])
    call = [sys.executable, "-m", "tests.support.reads", EXPERIMENTS[0], str(folder), *commands(), "run"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
