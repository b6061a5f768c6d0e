"""Latency as a table: seconds of a step by scale, measured once a machine and then constant.

A trial's latency is a sum over its schedule. So a disturbed machine cannot favour a trial, and a study
gives the same result when it is run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddit_eval.clock import machine
from ddit_eval.ddit.policies import Fixed, Threshold
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.experiment.records import code_hash
from ddit_eval.system.files import digest, read_json, write_json

ROUNDS = 3  # runs a scale, interleaved; of each run the first step is left out
STEPS = 8


@dataclass(frozen=True)
class Latency:
    """Median seconds of a step by scale; `signal`: what a step that reads the signal takes on top.

    `memory`: peak GiB on the device of a run at a scale; None where there is no GPU.
    """

    seconds: Mapping[int, float]
    signal: float
    memory: Mapping[int, float] | None

    def seconds_of(self, trace: Sequence[Mapping[str, Any]]) -> float:
        """Seconds of the denoising steps of a trace in JSON form."""
        return sum(self.seconds[step["scale"]] + self.signal * bool(step["signals"]) for step in trace)

    def peak(self, scales: Iterable[int]) -> float | None:
        """Peak GiB of a run over these scales."""
        return max(self.memory[scale] for scale in scales) if self.memory else None

    def to_json(self) -> dict[str, Any]:
        memory = {str(k): v for k, v in self.memory.items()} if self.memory else None
        return {
            "seconds": {str(k): v for k, v in self.seconds.items()},
            "signal": self.signal,
            "memory": memory,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Latency:
        memory = data["memory"] and {int(k): float(v) for k, v in data["memory"].items()}
        return cls({int(k): float(v) for k, v in data["seconds"].items()}, float(data["signal"]), memory)


def machine_key() -> str:
    """12 hex digits of the machine as far as it decides latencies: equal machines share studies."""
    about = machine.describe()
    kept = {k: v for k, v in about.items() if k not in ("matmul_gflops", "copy_gb_s")}
    return digest(kept)


def table_of(experiment: Experiment, state: Path, pipe: Any = None) -> Latency:
    """The table of this machine for the experiment's model, adapter and size; measured if it is not there."""
    weights = describe_weights(experiment)
    parts = [
        machine_key(), weights.model_hash, weights.adapter_hash, weights.dtype, size_of(experiment),
        experiment.true_cfg_scale, experiment.guidance_scale, code_hash(),
    ]  # fmt: skip
    path = state / f"latency-{digest(parts)}.json"
    if not path.exists():
        write_json(path, calibrate(experiment, pipe).to_json())
    return Latency.from_json(read_json(path))


def calibrate(experiment: Experiment, pipe: Any = None) -> Latency:
    """Measure the table: every scale, and the base with a signal that never fires, in turns."""
    weights = describe_weights(experiment)
    prompt = load_prompts(experiment.prompts)[0]
    with Generator(experiment, pipe) as generator:
        adapter = generator.handle.adapter
        scales = (1, *(adapter.scales if adapter else ()))
        policies = {scale: Fixed(scale=scale) for scale in scales}
        runs: dict[int, Any] = policies | ({0: Threshold(tau=1e-30, scales=scales[1:])} if adapter else {})
        seconds: dict[int, list[float]] = {name: [] for name in runs}
        memory: dict[int, float] = {}
        for _ in range(ROUNDS):
            for name, policy in runs.items():
                method = Method(name="latency", policy=policy, steps=STEPS)
                trace, peak = _timed(generator, [job_of(experiment, weights, method, prompt)])
                # Steps without a signal say nothing of what it takes.
                seconds[name] += [s["seconds"] for s in trace[1:] if name or s["signals"]]
                if peak is not None and name:
                    memory[name] = max(peak, memory.get(name, 0.0))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    signal = max(0.0, medians.pop(0, medians[1]) - medians[1])
    return Latency(medians, signal, memory or None)


def _timed(generator: Generator, jobs: list[Any]) -> tuple[list[dict[str, Any]], float | None]:
    """The trace of a run, and its peak GiB on a GPU."""
    import torch

    if not torch.cuda.is_available():
        return generator.sample(jobs)[1], None
    torch.cuda.reset_peak_memory_stats()
    trace = generator.sample(jobs)[1]
    return trace, torch.cuda.max_memory_allocated() / 2**30
