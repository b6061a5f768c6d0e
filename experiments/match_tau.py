"""Find the tau at which the DDiT rule costs as much as a control, for each order.

    python experiments/match_tau.py --ratio 1.49

The cost is FLOPs: the base's over the rule's, summed over the prompts.
tau is in units of the raw latents and of the difference's order, so equal taus are not equal costs.
Calibrated on training-split prompts; the experiment then reports on held-out ones.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import torch
import typer

import ddit_eval
from ddit_eval import flops
from ddit_eval.cost import flop_table
from ddit_eval.models import default_side
from ddit_eval.policies import Threshold
from ddit_eval.world import caption, sample_scenes


def flop_ratio(
    pipe: Any, handle: Any, prompts: list[str], call: dict[str, Any], table: dict[int, int]
) -> float:
    """FLOPs of the base over those of the attached policy, over all prompts."""
    base = run = 0
    for index, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(index)
        pipe(prompt, **call, generator=generator, output_type="latent")
        base += call["num_inference_steps"] * table[1]
        run += flops.of_run((t.scale for t in handle.trace), table)
    return base / run


def main(
    model: str = "mini-flux",
    adapter: str = "mini-flux",
    ratio: Annotated[float, typer.Option(help="FLOP ratio to hit.")] = 1.49,
    scales: Annotated[str, typer.Option(help="Candidate scales, comma separated.")] = "2,4",
    rule: Annotated[str, typer.Option(help="More fields of the policy, as JSON.")] = "{}",
    orders: str = "1,2,3",
    prompts: int = 8,
    steps: int = 24,
    side: Annotated[int | None, typer.Option(help="Pixels (default: the model's own).")] = None,
) -> None:
    """Bisect tau for each order; prints one JSON line an order."""
    pipe = ddit_eval.load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    texts = [caption(s) for s in sample_scenes(501, 0, prompts)]
    candidates = tuple(int(s) for s in scales.split(","))
    side = side or default_side(pipe)
    call = {"height": side, "width": side, "num_inference_steps": steps}
    table = flop_table(model, adapter, side, side)
    with ddit_eval.attach(pipe, adapter=adapter) as handle:
        for order in (int(o) for o in orders.split(",")):
            low, high = math.log(1e-4), math.log(1e1)
            tried: list[tuple[float, float]] = []
            for _ in range(9):
                tau = math.exp((low + high) / 2)
                handle.policy = Threshold(tau=tau, order=order, scales=candidates, **json.loads(rule))
                found = flop_ratio(pipe, handle, texts, call, table)
                tried.append((abs(math.log(found / ratio)), tau))
                if found < ratio:
                    low = math.log(tau)
                else:
                    high = math.log(tau)
            _, tau = min(tried)
            handle.policy = Threshold(tau=tau, order=order, scales=candidates, **json.loads(rule))
            scales_run = [t.scale for t in handle.trace]
            print(
                json.dumps(
                    {
                        "order": order,
                        "tau": tau,
                        "ratio": flop_ratio(pipe, handle, texts, call, table),
                        "last": scales_run,
                    }
                )
            )


if __name__ == "__main__":
    typer.run(main)
