"""Find the tau at which each DDiT row of an experiment costs as much as a control.

    python experiments/match_tau.py experiments/quick.yaml --ratio 1.49

The cost is FLOPs: the base's over the rule's, summed over the prompts. Tau is in units of the raw latents
and of the difference's order, so equal taus are not equal costs. Matched on the prompts that the study tunes
on; the experiment then reports on others. The search sets out from the tau that the YAML has; paste what it
prints into the YAML. Rows are searched one after the other; `--only` names one, for a process each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ddit_eval.ddit.policies import Threshold
from ddit_eval.experiment.config import Method, load_experiment
from ddit_eval.experiment.generate import Generator
from ddit_eval.experiment.prompts import tuning_prompts
from ddit_eval.experiment.setting import Setting


def search(
    ratio_of: Callable[[float], float], start: float, wanted: float, tries: int, close: float = 0.01
) -> tuple[float, float]:
    """The tau tried whose ratio is nearest to `wanted`, and that ratio; `ratio_of` rises with tau, in jumps.

    From `start` the steps grow until `wanted` lies between two taus, then the gap is halved (in logarithms).
    Stops after `tries` taus, or where the ratio is within `close` of what is wanted.
    """
    low, high, factor, tau = 0.0, math.inf, 1.25, start
    tried: list[tuple[float, float, float]] = []
    for _ in range(tries):
        ratio = ratio_of(tau)
        tried.append((abs(math.log(ratio / wanted)), tau, ratio))
        if tried[-1][0] < close:
            break
        low, high = (tau, high) if ratio < wanted else (low, tau)
        if low > 0 and high < math.inf:
            tau = math.sqrt(low * high)
        else:
            tau, factor = (tau * factor if high == math.inf else tau / factor), factor**2
    _, tau, ratio = min(tried)
    return tau, ratio


def main(
    experiment: Path,
    ratio: Annotated[float, typer.Option(help="FLOP ratio to hit.")] = 1.49,
    prompts: Annotated[int, typer.Option(help="Tuning prompts; a few say little of others.")] = 8,
    tries: Annotated[int, typer.Option(help="Taus a row at most.")] = 9,
    only: Annotated[str, typer.Option(help="One row by name; every DDiT row if left out.")] = "",
) -> None:
    """Search the tau of every row with a threshold; prints a line a row."""
    config = load_experiment(experiment)
    rules = [(m, m.policy) for m in config.methods if isinstance(m.policy, Threshold)]
    rows = [(method, rule) for method, rule in rules if only in ("", method.name)]
    if not rows:
        names = ", ".join(method.name for method, _ in rules) or "none"
        raise typer.BadParameter(f"{experiment} has no such row with a threshold {only!r}; it has {names}")
    setting = Setting(config)
    asked = tuning_prompts(config.prompts, prompts)

    def ratio_of(generator: Generator, method: Method, rule: Threshold, tau: float) -> float:
        """FLOPs of the base over those of the rule at `tau`, over all prompts."""
        changed = method.model_copy(update={"policy": rule.model_copy(update={"tau": tau})})
        traces = [generator.sample([setting.job(changed, prompt)]).trace for prompt in asked]
        base = sum(len(trace) for trace in traces) * setting.calls * setting.flops[1]
        return base / sum(setting.flops_of(trace) for trace in traces)

    with Generator(setting) as generator:
        for method, rule in rows:
            tau, value = search(partial(ratio_of, generator, method, rule), rule.tau, ratio, tries)
            print(f"{method.name}: tau {tau:.3g}, FLOPs / {value:.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
