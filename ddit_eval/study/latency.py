"""Latency as a table: seconds of a step by scale, 0 for one that is skipped, and of what lies between steps;
measured once a machine and then constant.

A trial's latency is a sum over its schedule. So a disturbed machine cannot favour a trial, and a study
gives the same result when it is run again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
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

ROUNDS, MOST = 3, 8  # runs of each kind, interleaved, until they agree; of each the first step is left out
ALIKE = 1.06  # runs of one kind agree where the slowest takes less than this times the fastest
STEPS = 8
SKIPPED, SIGNAL = "skipped", "signal"


def machine_key() -> str:
    """12 hex digits of the machine as far as it decides latencies: equal machines share studies."""
    return digest(machine.describe().model_dump(exclude={"matmul_gflops", "copy_gb_s"}))


def table_of(setting: Setting, state: Path, pipe: Any = None) -> Latency:
    """The table of this machine for a model, adapter and size; measured if it is not there."""
    weights, experiment = setting.weights, setting.experiment
    parts = [
        machine_key(), weights.model_hash, weights.adapter_hash, weights.dtype, setting.size,
        experiment.true_cfg_scale, experiment.guidance_scale, code_hash("ddit", "clock", "study"),
        version("torch"), version("diffusers"),
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
    with Generator(setting, pipe) as generator:
        adapter = generator.handle.adapter
        scales = adapter.scales if adapter else ()
        runs: dict[str, Policy] = {str(scale): Fixed(scale=scale) for scale in (1, *scales)}
        runs[SKIPPED] = Explicit(scales=(1, 0) * (STEPS // 2), forecast=1)
        if adapter:
            runs[SIGNAL] = Threshold(tau=1e-30, scales=scales)
        bench, rounds = Bench(generator), list[dict[str, Run]]()
        while len(rounds) < MOST and not agree(rounds):
            rounds.append({name: _run(bench, policy, name) for name, policy in runs.items()})
        worker = _whole(generator)
    least = {name: min(one[name].seconds for one in rounds) for name in runs}
    memory = {scale: max(one[str(scale)].memory for one in rounds) for scale in (1, *scales)}
    return Latency(
        seconds={0: least[SKIPPED]} | {scale: least[str(scale)] for scale in (1, *scales)},
        signal=max(0.0, least.get(SIGNAL, least["1"]) - least["1"]),
        beside=max(0.0, float(np.median([run.beside for one in rounds for run in one.values()]))),
        worker=worker,
        memory=memory if all(memory.values()) else None,
    )


@dataclass(frozen=True)
class Run:
    """Median seconds of the steps that are asked for, seconds a step beside them, peak GiB (0: not known)."""

    seconds: float
    beside: float
    memory: float


def agree(rounds: Sequence[Mapping[str, Run]]) -> bool:
    """Whether of each kind of run the last rounds are alike: what disturbs a machine makes no round faster,
    so that the least counts, and comes in bursts that a few rounds outlast."""
    last = rounds[-ROUNDS:]
    if len(last) < ROUNDS:
        return False
    told = [[one[name].seconds for one in last] for name in last[0] if name != SKIPPED]
    return all(max(seconds) < ALIKE * min(seconds) for seconds in told)


def _run(bench: Bench, policy: Policy, name: str) -> Run:
    import torch

    setting, on_gpu = bench.generator.setting, torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    prompt = setting.prompts[0]
    call = bench.call(Method(name="latency", policy=policy, steps=STEPS), (prompt,), prompt.seed)
    whole, trace = bench.watch.denoise(call)["denoise"], bench.generator.handle.trace
    # Steps without a signal say nothing of what it takes; of the skipping run, those that were skipped do.
    steps = [s for s in trace[1:] if (name != SIGNAL or s.signals) and (name != SKIPPED or s.scale == 0)]
    return Run(
        float(np.median([step.seconds for step in steps])),
        (whole - sum(step.seconds for step in trace)) / STEPS,
        torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
    )


def _whole(generator: Generator) -> tuple[float, float]:
    """Seconds of a base step, and of all of a run but its steps, in a worker of a search."""
    method = Method(name="latency", policy=Fixed(scale=1), steps=STEPS)
    with a_thread_each():
        started = time.perf_counter()
        trace = generator.sample([generator.setting.job(method, generator.setting.prompts[0])]).trace
        whole = time.perf_counter() - started
    steps = sum(step.seconds for step in trace)
    return steps / STEPS, max(0.0, whole - steps)
