"""Worker processes on this machine that share a list of work with the process that started them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def beside(work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """A process for each of `calls`, which runs `work(*call)` while the body runs; leaving waits for all.

    work: picklable. One that fails says so by its exit alone: the caller looks what is left undone.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch may hang
    processes = [context.Process(target=work, args=call) for call in calls]
    for process in processes:
        process.start()
    try:
        yield
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def share_of_cores(workers: int) -> Iterator[None]:
    """Inside, torch takes a worker's part of the cores: on small matrices two processes of one thread do more
    than one process of two."""
    import torch

    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)
