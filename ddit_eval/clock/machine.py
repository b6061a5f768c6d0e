"""What the numbers were measured on, including how fast it really is."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

from ddit_eval.schema.timing import Machine

_SIDE = 768  # of the matrices: 0.9 GFLOP, out of the caches' way and still short
_COPY = 1 << 25  # bytes: more than a second-level cache holds
_TRIES = 5


def describe(device: Any = None, dtype: Any = None) -> Machine:
    """The machine: names, cores, versions, measured speed. Takes well under a second.

    `device`: where the model runs; CUDA if there is one, else the CPU. `dtype`: of the matrix rate, the
    model's own; default float32. No host or user name is in it.
    """
    import torch

    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Machine(
        cpu=_cpu_name(),
        cores=_cores(),
        threads=torch.get_num_threads(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        device=torch.cuda.get_device_name(target) if target.type == "cuda" else target.type,
        matmul_gflops=round(_matmul_gflops(target, dtype or torch.float32), 1),
        matmul_dtype=str(dtype or torch.float32).removeprefix("torch."),
        copy_gb_s=round(_copy_gb_s(target), 1),
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Cores that this process may use, which a container may make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _matmul_gflops(device: Any, dtype: Any) -> float:
    import torch

    # A small product would leave a GPU waiting for the next launch.
    side = _SIDE if device.type == "cpu" else 8 * _SIDE
    a = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _best(lambda: a @ a, device) / 1e9


def _copy_gb_s(device: Any) -> float:
    """Bytes read and written in a second by a copy."""
    import torch

    size = _COPY if device.type == "cpu" else 32 * _COPY
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device) / 1e9


def _best(run: Any, device: Any) -> float:
    """Seconds of the fastest of a few runs: the others were disturbed."""
    seconds = []
    for _ in range(_TRIES + 1):
        start = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def synchronise(device: Any) -> None:
    """Wait for what a device has been given to do."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
