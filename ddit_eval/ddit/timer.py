"""How long each step took."""

from __future__ import annotations

import time
from typing import Any

import torch

from ddit_eval.ddit.trace import StepTrace


class Timer:
    """Seconds per step: the host's clock on a CPU, device events (read only when asked for) on CUDA."""

    def __init__(self) -> None:
        self._index = 0
        self._started = 0.0
        self._device = torch.device("cpu")
        self._event: Any = None
        self._pending: dict[int, tuple[Any, Any]] = {}

    def start(self, index: int, now: float, device: torch.device) -> None:
        self._index, self._started, self._device = index, now, device
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))

    def stop(self, traces: list[list[StepTrace]]) -> None:
        if self._index >= len(traces[0]):
            return  # the decision itself failed
        if self._device.type == "cuda":
            end = torch.cuda.Event(enable_timing=True)
            end.record(torch.cuda.current_stream(self._device))
            self._pending[self._index] = (self._event, end)
        else:
            for trace in traces:
                trace[self._index].seconds = time.perf_counter() - self._started

    def resolve(self, traces: list[list[StepTrace]]) -> None:
        for index, (start, end) in self._pending.items():
            end.synchronize()
            for trace in traces:
                trace[index].seconds = start.elapsed_time(end) / 1000
        self._pending = {}
