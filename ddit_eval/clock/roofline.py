"""How near a transformer call comes to what its machine can do (Williams et al. 2009, the roofline model).

A call cannot be faster than its operations at the machine's matrix rate, nor than its weights at the
machine's copy rate. Both rates are measured on the spot (`clock.machine`); activations are left out of
the bytes, so the bound is a lower one, and a share of 100 % is out of reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ddit_eval.schema.timing import Machine, Scale


def bound(
    flops: float, weight_bytes: float, gflops: float, gb_s: float
) -> tuple[float, Literal["compute", "memory"]]:
    """Least seconds for an amount of work, and what sets them. Rates in 1e9 FLOP/s and 1e9 bytes/s."""
    compute, memory = flops / gflops / 1e9, weight_bytes / gb_s / 1e9
    return (compute, "compute") if compute >= memory else (memory, "memory")


def by_scale(
    seconds: Mapping[int, Sequence[float]],
    flops: Mapping[int, int],
    weight_bytes: int,
    machine: Machine,
) -> list[Scale]:
    """One row a scale that ran. `flops` and `weight_bytes`: of one step, the batch and all calls included."""
    rows = []
    for scale, times in sorted(seconds.items()):
        low, high = np.quantile(times, (0.5, 0.95))
        # The copy rate counts a byte twice, read and written; weights are only read.
        least, limit = bound(flops[scale], weight_bytes, machine.matmul_gflops, machine.copy_gb_s)
        rows.append(
            Scale(
                scale=scale,
                n=len(times),
                p50=float(low),
                p95=float(high),
                flops=flops[scale],
                bytes=weight_bytes,
                bound=least,
                limit=limit,
                share=least / float(low),
            )
        )
    return rows
