"""Latency as a table: seconds of a step by scale, measured once a machine and then constant.

A trial's latency is a sum over its schedule. So a disturbed machine cannot favour a trial, and a study
gives the same result when it is run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval.clock import machine
from ddit_eval.ddit.policies import Fixed, Threshold
from ddit_eval.experiment.config import Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.records import code_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.schema import write
from ddit_eval.schema.kept import known
from ddit_eval.schema.study import Latency
from ddit_eval.system.files import digest

ROUNDS = 3  # runs a scale, interleaved; of each run the first step is left out
STEPS = 8


def machine_key() -> str:
    """12 hex digits of the machine as far as it decides latencies: equal machines share studies."""
    return digest(machine.describe().model_dump(exclude={"matmul_gflops", "copy_gb_s"}))


def table_of(setting: Setting, state: Path, pipe: Any = None) -> Latency:
    """The table of this machine for a model, adapter and size; measured if it is not there."""
    weights, experiment = setting.weights, setting.experiment
    parts = [
        machine_key(), weights.model_hash, weights.adapter_hash, weights.dtype, setting.size,
        experiment.true_cfg_scale, experiment.guidance_scale, code_hash(),
    ]  # fmt: skip
    path = state / f"latency-{digest(parts)}.json"
    table = known(path, Latency)
    if table is None:
        table = calibrate(setting, pipe)
        write(path, table)
    return table


def calibrate(setting: Setting, pipe: Any = None) -> Latency:
    """Measure the table: every scale, and the base with a signal that never fires, in turns."""
    import torch

    on_gpu = torch.cuda.is_available()
    with Generator(setting, pipe) as generator:
        adapter = generator.handle.adapter
        scales = (1, *(adapter.scales if adapter else ()))
        policies = {scale: Fixed(scale=scale) for scale in scales}
        runs: dict[int, Any] = policies | ({0: Threshold(tau=1e-30, scales=scales[1:])} if adapter else {})
        seconds: dict[int, list[float]] = {name: [] for name in runs}
        memory: dict[int, float] = {}
        for _ in range(ROUNDS):
            for name, policy in runs.items():
                method = Method(name="latency", policy=policy, steps=STEPS)
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats()
                trace = generator.sample([setting.job(method, setting.prompts[0])]).trace
                # Steps without a signal say nothing of what it takes.
                seconds[name] += [s.seconds for s in trace[1:] if name or s.signals]
                if on_gpu and name:
                    memory[name] = max(torch.cuda.max_memory_allocated() / 2**30, memory.get(name, 0.0))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    signal = max(0.0, medians.pop(0, medians[1]) - medians[1])
    return Latency(seconds=medians, signal=signal, memory=memory or None)
