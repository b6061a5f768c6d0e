"""The timing stage: an experiment's methods against its reference on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddit_eval.clock import machine, roofline, timing
from ddit_eval.clock.compiling import CompiledBlocks, graphs
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.ddit.policies import Fixed, choices
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.experiment.prompts import Prompt, load_prompts
from ddit_eval.experiment.records import Weights
from ddit_eval.models import flops
from ddit_eval.models.cost import calls_a_step, flop_table
from ddit_eval.system.files import check_writable, write_json

Group = tuple[Prompt, ...]
COMPILED = " (compiled)"  # behind the name of a method's compiled twin


def groups_of(prompts: Sequence[Prompt], count: int, batch: int) -> list[Group]:
    """`count` groups of `batch` prompts; a set that is too small starts again from its beginning."""
    return [tuple(prompts[(g * batch + i) % len(prompts)] for i in range(batch)) for g in range(count)]


class Bench:
    """Timed calls of one pipeline, switched from method to method."""

    def __init__(self, generator: Generator, experiment: Experiment, weights: Weights):
        self.generator, self.experiment, self.weights = generator, experiment, weights
        self.watch = Stopwatch(generator.pipe)
        self.traces: dict[str, list[list[StepTrace]]] = {}  # of every eager run timed so far, by method

    @property
    def steps(self) -> dict[int, list[float]]:
        """Seconds of every step timed so far, by scale; a step of several sizes is of no scale."""
        found: dict[int, list[float]] = {}
        for trace in itertools.chain.from_iterable(self.traces.values()):
            for step in trace:
                if not step.counts or set(step.counts) == {step.scale}:
                    found.setdefault(step.scale, []).append(step.seconds)
        return found

    def call(self, method: Method, group: Group, seed: int) -> dict[str, Any]:
        """Switch to `method`, and the arguments of its pipeline call with fresh noise from `seed`."""
        self.generator.handle.policy = method.policy
        self.generator.handle.seed = seed
        prompts = [replace(prompt, seed=seed + i) for i, prompt in enumerate(group)]
        return self.generator.arguments([job_of(self.experiment, self.weights, method, p) for p in prompts])

    def runner(
        self, method: Method, whole: Sequence[Group], compiled: CompiledBlocks | None = None
    ) -> timing.Runner[Group]:
        """Times the denoising loop, and for the groups in `whole` the call from prompt to picture as well;
        with its blocks compiled where `compiled` is given."""

        def run(group: Group, seed: int) -> dict[str, float]:
            with compiled.on() if compiled else nullcontext():
                seconds = self.watch.denoise(self.call(method, group, seed))
                trace = self.generator.handle.trace
                seconds["transformer"] = sum(step.seconds for step in trace)
                if group in whole:
                    seconds |= self.watch.whole(self.call(method, group, seed))
            if not compiled:
                self.traces.setdefault(method.name, []).append(trace)
            return seconds

        return run

    def operations(self, scale: int, group: Group) -> int:
        """FLOPs of one step at a scale as torch counts them: slow, so in a pass of its own."""
        call = self.call(Method(name="counted", policy=Fixed(scale=scale), steps=1), group, 0)
        call = {**self.watch.embed(call), "output_type": "latent"}
        return flops.counted(lambda: self.generator.pipe(**call))

    def warm_layouts(self, methods: Sequence[Method], group: Group, compiled: CompiledBlocks | None) -> None:
        """Run every scale that a method may choose once: which ones it will choose is not known before."""
        for scale in sorted({scale for method in methods for scale in choices(method.policy)}):
            method = Method(name="warm-up", policy=Fixed(scale=scale), steps=1)
            self.watch.denoise(self.call(method, group, 0))
            if compiled:
                with compiled.on():
                    self.watch.denoise(self.call(method, group, 0))


def time_experiment(
    experiment: Experiment,
    result: Path,
    *,
    pipe: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Time the experiment's methods in blocks and write `result` (timing.json); returns its content.

    The speed-up is that of the denoising loop at `timing.batch` pictures a call; text, decoder and the whole
    call are timed on the first `timing.whole` groups of prompts. With `timing.compile` each method runs in
    every block twice, eager and with its blocks compiled.
    """
    check_writable(result.parent)
    plan = experiment.timing
    names = plan.methods or tuple(m.name for m in experiment.methods)
    chosen = [m for m in experiment.methods if m.name in {*names, experiment.reference}]
    groups = groups_of(load_prompts(experiment.prompts), plan.prompts, plan.batch)
    with Generator(experiment, pipe) as generator:
        bench = Bench(generator, experiment, describe_weights(experiment))
        transformer = generator.pipe.transformer
        compiled = CompiledBlocks(transformer) if plan.compile else None
        whole = groups[: plan.whole]
        runners = {m.name: bench.runner(m, whole) for m in chosen}
        if compiled:
            runners |= {m.name + COMPILED: bench.runner(m, whole, compiled) for m in chosen}
        bench.warm_layouts(chosen, groups[0], compiled)
        # A pass of its own, since watching memory costs time; it is a warm-up as well.
        memory = {m.name: bench.watch.peak_memory(bench.call(m, groups[0], plan.seed)) for m in chosen}
        made: list[int] = []

        def warmed() -> None:
            bench.traces.clear()
            made.append(graphs() if compiled else 0)

        samples = timing.run_blocks(
            runners,
            groups,
            plan.rounds,
            plan.seed,
            reference=experiment.reference,
            warm_up=plan.warmup if compiled else plan.warmup - 1,
            warmed=warmed,
            progress=progress,
        )
        recompiles = graphs() - made[0] if compiled else 0
        steps = bench.steps
        counted = {scale: bench.operations(scale, groups[0]) for scale in sorted(steps)}
        content = summary(samples, experiment.reference, [m.name for m in chosen])
        for row in content["rows"]:
            row["peak_memory"] = memory[row["method"]]
            row["by_step"] = by_step(bench.traces[row["method"]])
        if compiled:
            content["compiled"] |= {"graphs": made[0], "recompiles": recompiles}
        about = machine.describe(bench.watch.device, transformer.dtype)
        table = flop_table(experiment.model, experiment.adapter, *size_of(experiment))
        calls = plan.batch * calls_a_step(experiment)
        weights = sum(p.numel() * p.element_size() for p in transformer.parameters())
        work = {scale: calls * count for scale, count in table.items()}
        content |= {
            "machine": about,
            "scales": [
                row.to_json() | {"counted": counted[row.scale]}
                for row in roofline.by_scale(steps, work, weights, about)
            ],
            "profile": experiment.profile,
            "model": experiment.model,
            "reference": experiment.reference,
            "batch": plan.batch,
            "prompts": plan.prompts,
            "rounds": plan.rounds,
        }
    write_json(result, content)
    return content


def by_step(traces: Sequence[Sequence[StepTrace]]) -> list[dict[str, float]]:
    """For every step its mean seconds over the runs, in parts by the scale that they went to."""
    parts: list[dict[str, float]] = []
    for same in zip(*traces, strict=True):
        parts.append({})
        for step in same:
            scale = str(step.scale)
            parts[-1][scale] = parts[-1].get(scale, 0.0) + step.seconds / len(same)
    return parts


def summary(samples: Sequence[timing.Sample], reference: str, order: Sequence[str]) -> dict[str, Any]:
    """`timing.summarise` of the eager runs, rows in `order`; under `compiled` that of the compiled ones
    against the compiled reference, and what compiling alone gained (`over_eager`)."""
    twins = [replace(s, method=s.method.removesuffix(COMPILED)) for s in samples if _is_twin(s)]
    content = timing.summarise([s for s in samples if not _is_twin(s)], reference)
    if twins:
        gain = timing.speedup(samples, reference + COMPILED, reference)
        content["compiled"] = timing.summarise(twins, reference) | {"over_eager": gain.to_json()}
    for table in (content, content.get("compiled", {"rows": []})):
        table["rows"].sort(key=lambda row: order.index(row["method"]))  # not as they were drawn
    return content


def _is_twin(sample: timing.Sample) -> bool:
    return sample.method.endswith(COMPILED)
