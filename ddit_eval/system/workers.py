"""Worker processes on this machine that share a list of work with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import Any

from ddit_eval.errors import DditError

PATIENCE = 10.0  # seconds for a process that was told to end


def check_workers(workers: int, pipe: Any = None) -> None:
    """Raises `DditError` for no worker, or for several that would have to share one loaded pipeline."""
    if workers < 1:
        raise DditError(f"the work needs at least one worker, not {workers}")
    if pipe is not None and workers > 1:
        raise DditError(
            f"a loaded pipeline is for one worker, not {workers}: leave `pipe` out, and each loads the model"
        )


@contextmanager
def beside(work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """A process for each of `calls`, which runs `work(*call, stop=stop)` while the body runs; leaving waits
    for all.

    work: picklable. It asks `stop()` between its parts, so as not to outlive this process. One that fails is
    named in a warning: the caller looks what is left undone.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch may hang
    processes = [context.Process(target=_work, args=(work, call, os.getpid())) for call in calls]
    # Ctrl-C in a terminal reaches all: this process alone answers it, and ends the others below.
    resource_tracker.ensure_running()  # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        try:
            for process in processes:
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield
        for number, process in enumerate(processes, 2):
            process.join()
            if code := process.exitcode:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                who = f"worker {number} of {len(processes) + 1}"
                warnings.warn(f"{who} {how}; this process does what it left undone", stacklevel=3)
    finally:
        started = [process for process in processes if process.pid]
        for process in started:
            process.terminate()
        for process in started:
            process.join(PATIENCE)
            process.kill()
            process.join(PATIENCE)


def _work(work: Callable[..., None], call: tuple[Any, ...], parent: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # tidies up on the way
    try:
        work(*call, stop=lambda: os.getppid() != parent)
    except DditError:
        raise SystemExit(1) from None  # the parent takes up what is left and tells of the same error


def a_thread_each() -> AbstractContextManager[None]:
    """Inside, torch computes on a CPU with one thread: sums over several round differently, and no value may
    depend on the number of cores or workers. On small matrices two such processes do more than one of two."""
    import torch

    return nullcontext() if torch.cuda.is_available() else threads(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch computes with `count` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
