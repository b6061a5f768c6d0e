"""The timing stage: an experiment's methods against its reference on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddit_eval.clock import machine, raw, roofline, timing, trust
from ddit_eval.clock.compiling import CompiledBlocks, graphs
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.ddit import sampling
from ddit_eval.ddit.policies import Fixed, choices
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.experiment.belongs import asked
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import Prompt
from ddit_eval.experiment.setting import Setting
from ddit_eval.models import flops
from ddit_eval.schema import Timing, write
from ddit_eval.schema.timing import Compiled, Table
from ddit_eval.system.files import check_writable, sweep, write_text
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.read import file_digest

Group = tuple[Prompt, ...]
COMPILED = " (compiled)"  # behind the name of a method's compiled twin


def groups_of(prompts: Sequence[Prompt], count: int, batch: int) -> list[Group]:
    """At most `count` groups of `batch` prompts, none in two of them: a group is what N counts. A set smaller
    than a batch fills it by starting again."""
    count = min(count, max(1, len(prompts) // batch))
    return [tuple(prompts[(g * batch + i) % len(prompts)] for i in range(batch)) for g in range(count)]


class Bench:
    """Timed calls of one pipeline, switched from method to method."""

    def __init__(self, generator: Generator):
        self.generator = generator
        self.watch, self.handle = Stopwatch(generator.pipe), generator.handle
        self.traces: dict[str, list[list[StepTrace]]] = {}  # of every eager run timed so far, by method

    @property
    def steps(self) -> dict[int, list[float]]:
        """Seconds of every step timed so far, by scale; a step of several sizes, or that was skipped, is of
        no scale."""
        found: dict[int, list[float]] = {}
        for trace in itertools.chain.from_iterable(self.traces.values()):
            for step in trace:
                if step.scale and (not step.counts or set(step.counts) == {step.scale}):
                    found.setdefault(step.scale, []).append(step.seconds)
        return found

    def call(self, method: Method, group: Group, seed: int) -> dict[str, Any]:
        """Switch to `method`, and the arguments of its pipeline call with fresh noise from `seed`."""
        prompts = [replace(prompt, seed=seed + i) for i, prompt in enumerate(group)]
        jobs = [self.generator.setting.job(method, p) for p in prompts]
        request = self.generator.request(jobs)
        self.handle = self.generator.switch(jobs[0])
        self.watch.pipe = self.handle.pipe  # a setup may have one of its own
        sampling.switch(self.handle, request)
        return sampling.arguments(self.handle.pipe, request)

    def runner(
        self, method: Method, whole: Sequence[Group], compiled: CompiledBlocks | None = None
    ) -> timing.Runner[Group]:
        """Times the denoising loop, and for the groups in `whole` the call from prompt to picture as well;
        with its blocks compiled where `compiled` is given."""

        def run(group: Group, seed: int) -> dict[str, float]:
            with compiled.on() if compiled else nullcontext():
                seconds = self.watch.denoise(self.call(method, group, seed))
                trace = self.handle.trace
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
        for scale in sorted({scale for method in methods for scale in choices(method.policy)} - {0}):
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
    progress: Progress = quiet,
) -> Timing:
    """Time the experiment's methods in blocks and write `result` (timing.json), with the raw times beside it;
    returns its content.

    The speed-up is that of the denoising loop at `timing.batch` pictures a call; text, decoder and the whole
    call are timed on the first `timing.whole` groups of prompts. With `timing.compile` each method runs in
    every block twice, eager and with its blocks compiled.
    """
    check_writable(result.parent)
    sweep(result.parent)
    setting, plan = Setting(experiment), experiment.timing
    names = plan.methods or tuple(m.name for m in experiment.methods)
    chosen = [m for m in experiment.methods if m.name in {*names, experiment.reference}]
    groups = groups_of(setting.prompts, plan.prompts, plan.batch)
    setting.check()
    with Generator(setting, pipe, keep=True) as generator:
        bench = Bench(generator)
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
            until=timing.Until(plan.within, plan.most, plan.minutes),
            warm_up=plan.warmup if compiled else plan.warmup - 1,
            warmed=warmed,
            progress=progress,
        )
        table, twins = tables(samples, experiment.reference, [m.name for m in chosen])
        if twins:
            twins = twins.model_copy(update={"graphs": made[0], "recompiles": graphs() - made[0]})
        about = machine.describe(bench.watch.device, transformer.dtype)
        calls = plan.batch * setting.calls
        weights = sum(p.numel() * p.element_size() for p in transformer.parameters())
        work = {scale: calls * count for scale, count in setting.flops.items()}
        rows = [
            row.model_copy(
                update={
                    "of": setting.measured(experiment.method(row.method)),
                    "peak_memory": memory[row.method],
                    "by_step": by_step(bench.traces[row.method]),
                }
            )
            for row in table.rows
        ]
        scales = [
            row.model_copy(update={"counted": bench.operations(row.scale, groups[0])})
            for row in roofline.by_scale(bench.steps, work, weights, about)
        ]
    raw_times = result.with_name(raw.FILE)
    write_text(raw_times, raw.to_csv(samples))
    content = Timing(
        asked=asked(experiment, Timing),
        profile=experiment.profile,
        model=experiment.model,
        reference=experiment.reference,
        batch=plan.batch,
        prompts=len(groups),
        rounds=1 + max(s.round for s in samples),
        stage=table.stage,
        machine=about,
        rows=tuple(rows),
        null=table.null,
        scales=tuple(scales),
        compiled=twins,
        repeated=len({(s.prompt, s.round) for s in samples if s.repeated}),
        bad=trust.why_bad(table, plan.within),
        files={raw_times.name: file_digest(raw_times)},
    )
    write(result, content)
    return content


def by_step(traces: Sequence[Sequence[StepTrace]]) -> tuple[dict[int, float], ...]:
    """For every step its mean seconds over the runs, in parts by the scale that they went to."""
    parts: list[dict[int, float]] = []
    for same in zip(*traces, strict=True):
        parts.append({})
        for step in same:
            parts[-1][step.scale] = parts[-1].get(step.scale, 0.0) + step.seconds / len(same)
    return tuple(parts)


def tables(
    samples: Sequence[raw.Sample], reference: str, order: Sequence[str]
) -> tuple[Table, Compiled | None]:
    """`timing.summarise` of the eager runs, rows in `order`; that of the compiled ones against the compiled
    reference, if there are any."""
    twins = [replace(s, method=s.method.removesuffix(COMPILED)) for s in samples if _is_twin(s)]
    eager = _ordered(timing.summarise([s for s in samples if not _is_twin(s)], reference), order)
    if not twins:
        return eager, None
    gain = timing.speedup(samples, reference + COMPILED, reference)
    return eager, Compiled(**dict(_ordered(timing.summarise(twins, reference), order)), over_eager=gain)


def _ordered(table: Table, order: Sequence[str]) -> Table:
    """Rows in `order`, not as they were drawn."""
    rows = sorted(table.rows, key=lambda row: order.index(row.method))
    return table.model_copy(update={"rows": tuple(rows)})


def _is_twin(sample: raw.Sample) -> bool:
    return sample.method.endswith(COMPILED)
