"""Latency as a table: seconds of a step by scale, 0 for one that is skipped, and of what lies between steps;
measured once a machine and then constant.

A trial's latency is a sum over its schedule. So a disturbed machine cannot favour a trial, and a study
gives the same result when it is run again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval.clock import machine
from ddit_eval.ddit.policies import Explicit, Fixed, Policy, Threshold
from ddit_eval.experiment.config import Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.records import code_hash
from ddit_eval.experiment.setting import Setting
from ddit_eval.experiment.time import Bench
from ddit_eval.schema import write
from ddit_eval.schema.kept import known
from ddit_eval.schema.study import Latency
from ddit_eval.system.files import digest
from ddit_eval.system.workers import a_thread_each

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
    """Measure the table: every scale, the base with a signal that never fires, and one step in two skipped,
    in turns; then a run from prompt to picture as a worker makes it."""
    import torch

    on_gpu = torch.cuda.is_available()
    with Generator(setting, pipe) as generator:
        bench, adapter = Bench(generator), generator.handle.adapter
        scales = adapter.scales if adapter else ()
        runs: dict[str, Policy] = {str(scale): Fixed(scale=scale) for scale in (1, *scales)}
        runs["skipped"] = Explicit(scales=(1, 0) * (STEPS // 2), forecast=1)
        if adapter:
            runs["signal"] = Threshold(tau=1e-30, scales=scales)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        memory: dict[int, float] = {}
        beside: list[float] = []
        for _ in range(ROUNDS):
            for name, policy in runs.items():
                method = Method(name="latency", policy=policy, steps=STEPS)
                if on_gpu:
                    torch.cuda.reset_peak_memory_stats()
                call = bench.call(method, (setting.prompts[0],), setting.prompts[0].seed)
                whole, trace = bench.watch.denoise(call)["denoise"], generator.handle.trace
                beside.append((whole - sum(step.seconds for step in trace)) / STEPS)
                # Steps without a signal say nothing of what it takes; of the skipping run, those skipped.
                wanted = {"signal": lambda s: s.signals, "skipped": lambda s: s.scale == 0}
                seconds[name] += [s.seconds for s in trace[1:] if wanted.get(name, bool)(s)]
                if on_gpu and name.isdecimal():
                    memory[int(name)] = max(
                        torch.cuda.max_memory_allocated() / 2**30, memory.get(int(name), 0.0)
                    )
        medians = {name: float(np.median(values)) for name, values in seconds.items()}
        method = Method(name="latency", policy=Fixed(scale=1), steps=STEPS)
        with a_thread_each():
            started = time.perf_counter()
            trace = generator.sample([setting.job(method, setting.prompts[0])]).trace
            whole = time.perf_counter() - started
    alone = sum(step.seconds for step in trace)
    return Latency(
        seconds={0: medians["skipped"]} | {scale: medians[str(scale)] for scale in (1, *scales)},
        signal=max(0.0, medians.get("signal", medians["1"]) - medians["1"]),
        beside=max(0.0, float(np.median(beside))),
        worker=(alone / STEPS, max(0.0, whole - alone)),
        memory=memory or None,
    )
