"""`make bench`: what the attachment costs, and whether fewer FLOPs become less time.

Every figure is held against its target by its interval: "met" and "missed" need the whole interval on one
side, anything else is "undecided". Leave the machine alone while it runs (about four minutes on 2 cores).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ddit_eval import stats
from ddit_eval.clock import machine, timing
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.ddit import policies, regions, schedule
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.policies import StepView
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.models import flops
from ddit_eval.models.load import default_side, load_pipeline
from ddit_eval.stats import Interval
from ddit_eval.system.files import write_json
from ddit_eval.world import caption, sample_scenes

IMPORT = "import time; t = time.perf_counter(); import ddit_eval; print(time.perf_counter() - t)"


@dataclass(frozen=True)
class Effort:
    """How long to measure. `steps` of a denoising loop: overheads are per step, so a few suffice."""

    prompts: int = 8
    rounds: int = 10
    steps: int = 8
    batch: int = 8
    batch_rounds: int = 3
    decisions: int = 24
    processes: int = 5


@dataclass(frozen=True)
class Target:
    """A figure and the side of `bound` on which it has to lie."""

    name: str
    what: str
    unit: str
    figure: Interval
    bound: float
    at_most: bool = True

    @property
    def verdict(self) -> str:
        low, high = self.figure.low, self.figure.high
        if self.at_most:
            inside, outside = high <= self.bound, low > self.bound
        else:
            inside, outside = low >= self.bound, high < self.bound
        return "met" if inside else "missed" if outside else "undecided"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            **self.figure.to_json(),
            "target": f"{'<=' if self.at_most else '>='} {self.bound:g}",
            "verdict": self.verdict,
        }


class Loop:
    """Denoising loops of one pipeline, with and without an attachment."""

    def __init__(self, pipe: Any, adapter: Adapter, call: Mapping[str, Any]):
        self.pipe, self.adapter, self.call = pipe, adapter, dict(call)
        self.watch = Stopwatch(pipe)
        self.traces: list[list[StepTrace]] = []  # of the newest run, one a schedule

    def runner(
        self, policy: policies.Policy | None, batch: int = 1, per_sample: bool = False
    ) -> timing.Runner[str]:
        """Seconds of the loop under `policy`; None: on the plain pipeline."""

        def run(prompt: str, seed: int) -> float:
            # The plain run attaches as well, and detaches before the clock starts: equal histories.
            handle = attach(self.pipe, self.adapter, policy or policies.Base(), per_sample=per_sample)
            try:
                if policy is None:
                    handle.detach()
                noise = [torch.Generator("cpu").manual_seed(seed + i) for i in range(batch)]
                call = {**self.call, "prompt": [prompt] * batch, "generator": noise}
                seconds = self.watch.denoise(call)["denoise"]
                self.traces = handle.traces
                return seconds
            finally:
                handle.detach()

        return run

    @property
    def grid(self) -> flops.Grid:
        return flops.grid_of(self.pipe, self.call["height"], self.call["width"])

    def words(self, prompt: str) -> int:
        """Text tokens of a call."""
        return int(self.watch.embed({**self.call, "prompt": [prompt]})["prompt_embeds"].shape[1])


def silent_rule(adapter: Adapter) -> policies.Threshold:
    """The rule at a threshold so low that it measures at every step and never goes coarse."""
    return policies.Threshold(tau=1e-30, rho=0.4, order=3, scales=adapter.scales)


def overhead(loop: Loop, prompts: Sequence[str], effort: Effort) -> tuple[list[Target], float, Any]:
    """What attaching costs at scale 1, the seconds of a plain step, and the null row."""
    runners = {
        "plain": loop.runner(None),
        "attached": loop.runner(policies.Base()),
        "rule": loop.runner(silent_rule(loop.adapter)),
    }
    samples = timing.run_blocks(runners, prompts, effort.rounds, reference="plain")
    step = statistics.median(s.stages[timing.STAGE] for s in samples if s.method == "plain") / effort.steps
    targets = []
    for name, what, bound in (
        ("attached", "attachment at scale 1, share of the denoising loop", 1.0),
        ("rule", "attachment and rule (never fires), share of the loop", 2.0),
    ):
        ratio = timing.speedup(samples, "plain", name)  # seconds of `name` over those of plain
        targets.append(Target(name, what, "%", ratio.scaled(100, -100), bound))
    null = timing.speedup(samples, timing.NULL, "plain")
    return targets, step, null.to_json()


def decision(loop: Loop, prompt: str, effort: Effort) -> Target:
    """Seconds of one decision (difference, deviations, percentile, read-out, rule) as % of a base step.

    Each decision follows a denoising loop, as in life: the caches are not warm with its data, and both
    have seen the same load of the machine.
    """
    rule = silent_rule(loop.adapter)
    grid = loop.grid
    shape = (1, grid[1] * grid[2], loop.adapter.config.out_channels)
    device, dtype = loop.watch.device, loop.pipe.transformer.dtype
    latents = [torch.randn(shape, device=device, dtype=dtype) for _ in range(rule.order + 1)]
    differences = schedule.Differences(rule.order)

    def decide(index: int) -> None:
        difference = differences.push(latents[index % len(latents)])
        if difference is not None:
            read = schedule.signals(difference, grid, rule.scales, rule.rho).amax(0).tolist()
            rule.decide(StepView(index, index + 1, dict(zip(rule.scales, read, strict=True))))

    for index in range(2 * len(latents)):
        decide(index)
    plain = loop.runner(None)
    shares = []
    for index in range(effort.decisions):
        base = plain(prompt, index)
        assert isinstance(base, float)
        shares.append(100 * loop.watch.seconds(partial(decide, index)) * effort.steps / base)
    return Target("decision", "scheduler's decision, share of a base step", "%", median(shares), 1.0)


def batched(loop: Loop, prompts: Sequence[str], effort: Effort) -> list[Target]:
    """Measured speed-up of always-s over what the FLOP ratio allows, at a batch."""
    fixed = {f"always-{s}p": policies.Fixed(scale=s) for s in loop.adapter.scales}
    runners = {"base": loop.runner(policies.Base(), effort.batch)}
    runners |= {name: loop.runner(policy, effort.batch) for name, policy in fixed.items()}
    samples = timing.run_blocks(runners, prompts, effort.batch_rounds)
    words = loop.words(prompts[0])
    table = flops.by_scale(loop.pipe.transformer, loop.grid, words, loop.adapter.scales, loop.adapter)
    targets = []
    for name, policy in fixed.items():
        allowed = table[1] / table[policy.scale]
        got = timing.speedup(samples, name, "base")
        what = f"{name} at batch {effort.batch}: {got.value:.2f}x, share of the FLOP ratio {allowed:.2f}"
        targets.append(Target(name, what, "%", got.scaled(100 / allowed), 85.0, at_most=False))
    return targets


def region_rule(adapter: Adapter) -> policies.Region:
    """Several sizes in every step but the first, two fifths of the tokens in each."""
    return policies.Region(budget=0.4, order=1, scales=adapter.scales)


def tiling(loop: Loop, prompt: str, effort: Effort) -> Target:
    """Seconds from a difference to the layout of a step of several sizes (variance, budget, tiling) as % of
    a base step, measured as `decision` is."""
    rule, grid = region_rule(loop.adapter), loop.grid
    shape = (1, grid[1] * grid[2], loop.adapter.config.out_channels)
    differences = [
        torch.randn(shape, device=loop.watch.device, dtype=torch.float32) for _ in range(effort.decisions)
    ]

    def build(index: int) -> None:
        variance = regions.local_variance(differences[index], grid, rule.window).amax(0).cpu()
        allowed = rule.allowed(StepView(index, 2 + index), variance, None)
        assert allowed is not None
        regions.tile(allowed, rule.scales)

    regions.tile(torch.ones(grid, dtype=torch.int64), rule.scales)
    plain = loop.runner(None)
    shares = []
    for index in range(effort.decisions):
        base = plain(prompt, index)
        assert isinstance(base, float)
        shares.append(100 * loop.watch.seconds(partial(build, index)) * effort.steps / base)
    what = "layout of a step of several sizes, share of a base step"
    return Target("tiling", what, "%", median(shares), 2.0)


def batched_regions(loop: Loop, prompts: Sequence[str], effort: Effort) -> list[Target]:
    """Measured speed-up of steps of several sizes over what their FLOP ratio allows, at a batch: one tiling
    for all samples, and a tiling for each."""
    rule, words = region_rule(loop.adapter), loop.words(prompts[0])
    runners = {
        "base": loop.runner(policies.Base(), effort.batch),
        "regions, one tiling": loop.runner(rule, effort.batch),
        "regions, a tiling a sample": loop.runner(rule, effort.batch, per_sample=True),
    }
    samples = timing.run_blocks(runners, prompts, effort.batch_rounds)
    runners["regions, one tiling"](prompts[0], 0)  # a budget: the counts are those of every run
    counts = [step.counts or {1: step.base_tokens} for step in loop.traces[0]]
    spent = [flops.of_counts(loop.pipe.transformer, loop.grid, words, step, loop.adapter) for step in counts]
    allowed = len(spent) * spent[0] / sum(spent)
    targets = []
    for name in list(runners)[1:]:
        got = timing.speedup(samples, name, "base")
        what = f"{name}, at batch {effort.batch}: {got.value:.2f}x, share of the FLOP ratio {allowed:.2f}"
        targets.append(Target(name, what, "%", got.scaled(100 / allowed), 80.0, at_most=False))
    return targets


def batched_rule(loop: Loop, prompts: Sequence[str], effort: Effort) -> Target:
    """The rule in a batch whose samples want different scales: a schedule for each sample (the transformer
    runs once for each scale in a step) over one for all, which has the finest that any sample asks for."""
    rule = policies.Threshold(tau=1e-30, order=1, scales=loop.adapter.scales)
    loop.runner(rule, effort.batch, per_sample=True)(prompts[0], 0)
    seen = [s.signals[max(rule.scales)] for trace in loop.traces for s in trace if s.signals]
    rule = rule.model_copy(update={"tau": statistics.median(seen)})
    runners = {
        "one schedule": loop.runner(rule, effort.batch),
        "a schedule a sample": loop.runner(rule, effort.batch, per_sample=True),
    }
    samples = timing.run_blocks(runners, prompts, effort.batch_rounds)
    got = timing.speedup(samples, "a schedule a sample", "one schedule")
    what = f"a schedule for each of {effort.batch} samples, over the finest for all (tau: the median signal)"
    return Target("rule, a schedule a sample", what, "x", got, 1.0, at_most=False)


def start_up(effort: Effort) -> list[Target]:
    """Seconds of an import and of a --help, each in processes of its own (the first one only warms)."""

    def python(*arguments: str) -> str:
        return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout

    def clocked() -> float:
        start = time.perf_counter()
        python("-m", "ddit_eval", "--help")
        return time.perf_counter() - start

    def several(run: Callable[[], float]) -> Interval:
        return median([run() for _ in range(effort.processes + 1)][1:])

    return [
        Target("import", "import ddit_eval", "s", several(lambda: float(python("-c", IMPORT))), 0.5),
        Target("help", "ddit-eval --help, whole process", "s", several(clocked), 1.0),
    ]


def median(values: Sequence[float]) -> Interval:
    """The median with the interval of its order statistics (binomial, at least 95 % from 6 values on)."""
    ordered = sorted(values)
    n = len(ordered)
    reach = min((n - 1) // 2, round(0.98 * n**0.5 + 0.5))
    low, high = ordered[(n - 1) // 2 - reach], ordered[n // 2 + reach]
    return Interval(statistics.median(ordered), low, high, n)


def bench(pipe: Any, adapter: Adapter, call: Mapping[str, Any], effort: Effort) -> dict[str, Any]:
    """All figures of `pipe` as JSON. `call`: height, width and what else its calls need."""
    pipe.set_progress_bar_config(disable=True)
    loop = Loop(pipe, adapter, {**call, "num_inference_steps": effort.steps})
    prompts = [caption(scene) for scene in sample_scenes(0, 0, effort.prompts, "heldout")]
    attached, step, null = overhead(loop, prompts, effort)
    decided = decision(loop, prompts[0], effort)
    targets = [*attached, decided, tiling(loop, prompts[0], effort), *batched(loop, prompts, effort)]
    targets += [*batched_regions(loop, prompts, effort), batched_rule(loop, prompts, effort)]
    targets += start_up(effort)
    return {
        "machine": machine.describe(loop.watch.device).plain(),
        "base_step_seconds": step,
        "null": null,
        "rows": [target.to_json() for target in targets],
    }


def show(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured", "95 % interval", "target", "verdict")
    for row in result["rows"]:
        unit = row["unit"]
        style = {"met": "green", "missed": "red"}.get(row["verdict"], "yellow")
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        cells = (row["what"], f"{row['value']:.2f} {unit}", interval, f"{row['target']} {unit}")
        table.add_row(*cells, f"[{style}]{row['verdict']}")
    null = stats.Interval(**result["null"])
    console = Console()
    console.print(table)
    console.print(f"base step {1000 * result['base_step_seconds']:.2f} ms; the base against itself {null}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini-flux", help="a name, a folder or a hub id")
    parser.add_argument("--adapter", default="mini-flux", help="a name, a folder, or 'untrained': as fast")
    parser.add_argument("--side", type=int, help="pixels (default: the model's own)")
    parser.add_argument("--out", type=Path, default=Path("results/bench.json"))
    parser.add_argument("--rounds", type=int, default=Effort.rounds, help="more make narrower intervals")
    options = parser.parse_args()
    pipe = load_pipeline(options.model)
    untrained = options.adapter == "untrained"
    adapter = Adapter.from_base(pipe).eval() if untrained else Adapter.from_pretrained(options.adapter)
    side = options.side or default_side(pipe)
    result = bench(pipe, adapter, {"height": side, "width": side}, Effort(rounds=options.rounds))
    result |= {"model": options.model, "adapter": options.adapter, "side": side}
    write_json(options.out, result)
    show(result)


if __name__ == "__main__":
    main()
