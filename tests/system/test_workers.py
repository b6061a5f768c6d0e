"""Workers end with the process that started them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ddit_eval.system.workers import beside


def interrupted(done: Path, stop: Callable[[], bool]) -> None:
    signal.raise_signal(signal.SIGINT)
    done.touch()


def waits(there: Path, stop: Callable[[], bool]) -> None:
    there.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.fixture
def answered() -> Iterator[None]:
    """Ctrl-C is answered, also where a shell has started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_answered_by_the_process_that_started_them(tmp_path: Path, answered: None) -> None:
    with beside(interrupted, [(tmp_path / "done",)]):
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert (tmp_path / "done").exists()
    there = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt):
        in_the_middle(there)
    assert not psutil.pid_exists(int(there.read_text()))


def in_the_middle(there: Path) -> None:
    with beside(waits, [(there,)]):
        for _ in range(600):
            if there.exists() and there.read_text():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
