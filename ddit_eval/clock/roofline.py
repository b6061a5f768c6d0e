"""How near a transformer call comes to what its machine can do (Williams et al. 2009, the roofline model).

A call cannot be faster than its operations at the machine's matrix rate, nor than its weights at the
machine's copy rate. Both rates are measured on the spot (`clock.machine`); activations are left out of
the bytes, so the bound is a lower one, and a share of 100 % is out of reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class ScaleTime:
    """Measured step time at one scale against its bound. Seconds, FLOPs and bytes of one step."""

    scale: int
    n: int  # steps measured
    p50: float
    p95: float
    flops: int
    bytes: int
    bound: float
    limit: Literal["compute", "memory"]

    @property
    def share(self) -> float:
        """Bound over median: the part of the machine's speed that is reached."""
        return self.bound / self.p50

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"share": self.share}


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
    machine: Mapping[str, Any],
) -> list[ScaleTime]:
    """One row a scale that ran. `flops` and `weight_bytes`: of one step, the batch and all calls included."""
    rows = []
    for scale, times in sorted(seconds.items()):
        low, high = np.quantile(times, (0.5, 0.95))
        # The copy rate counts a byte twice, read and written; weights are only read.
        least, limit = bound(flops[scale], weight_bytes, machine["matmul_gflops"], machine["copy_gb_s"])
        rows.append(
            ScaleTime(scale, len(times), float(low), float(high), flops[scale], weight_bytes, least, limit)
        )
    return rows
