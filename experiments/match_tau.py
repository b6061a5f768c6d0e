"""Find the tau at which each DDiT row of an experiment costs as much as a control.

    python experiments/match_tau.py experiments/quick.yaml --ratio 1.49

The cost is FLOPs: the base's over the rule's, summed over the prompts. Tau is in units of the raw latents
and of the difference's order, so equal taus are not equal costs. Matched on the prompts that the study tunes
on; the experiment then reports on others. Paste what it prints into the YAML.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ddit_eval.config import Method, load_experiment
from ddit_eval.cost import calls_a_step, flop_table, flops_of
from ddit_eval.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.policies import Threshold
from ddit_eval.prompts import tuning_prompts

BISECTIONS = 9
RANGE = (1e-4, 1e2)


def main(
    experiment: Path,
    ratio: Annotated[float, typer.Option(help="FLOP ratio to hit.")] = 1.49,
    prompts: int = 8,
) -> None:
    """Bisect the tau of every row with a threshold; prints a line a row."""
    config = load_experiment(experiment)
    weights, calls = describe_weights(config), calls_a_step(config)
    table = flop_table(config.model, config.adapter, *size_of(config))
    asked = tuning_prompts(config.prompts, prompts)

    def found(generator: Generator, method: Method, policy: Threshold) -> float:
        """FLOPs of the base over those of the policy, over all prompts."""
        changed = method.model_copy(update={"policy": policy})
        traces = [generator.sample([job_of(config, weights, changed, prompt)])[1] for prompt in asked]
        base = sum(len(trace) for trace in traces) * calls * table[1]
        return base / sum(flops_of(trace, table, calls) for trace in traces)

    with Generator(config) as generator:
        for method in config.methods:
            rule = method.policy
            if not isinstance(rule, Threshold):
                continue
            low, high = (math.log(end) for end in RANGE)
            tried: list[tuple[float, float, float]] = []
            for _ in range(BISECTIONS):
                tau = math.exp((low + high) / 2)
                value = found(generator, method, rule.model_copy(update={"tau": tau}))
                tried.append((abs(math.log(value / ratio)), tau, value))
                low, high = (math.log(tau), high) if value < ratio else (low, math.log(tau))
            _, tau, value = min(tried)
            print(f"{method.name}: tau {tau:.3g}, FLOPs / {value:.3f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
