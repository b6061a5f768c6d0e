"""How well mini-flux follows its prompts, and the ceiling that the reader and the VAE set.

python -m experiments.recipes.score --out results/mini-flux.json
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from ddit_eval import stats
from ddit_eval.ddit.call import call_arguments
from ddit_eval.experiment.config import WorldPrompts
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.metrics import get
from ddit_eval.metrics.pictures.adherence import is_prompted, match
from ddit_eval.models.load import load_pipeline
from ddit_eval.system.files import write_json
from ddit_eval.world import Prompt, parse, render, sample_scenes
from ddit_eval.world.reader import Found, read
from experiments.recipes.pipeline import TEXT_TOKENS

GUIDANCE = 3.5  # FluxPipeline's own default


def object_accuracy(prompts: Sequence[Prompt], found: Sequence[Sequence[Found]]) -> float:
    """Right objects over all prompted things (each thing weighs the same, whatever its picture)."""
    right = sum(
        is_prompted(thing, one)
        for prompt, objects in zip(prompts, found, strict=True)
        for thing, one in zip(prompt.things, match(prompt.things, objects), strict=True)
    )
    total = sum(len(prompt.things) for prompt in prompts)
    return right / total if total else math.nan


def scores(pictures: Tensor, prompts: list[str]) -> dict[str, Any]:
    """Accuracy by attribute with intervals over prompts; `all-objects` weighs every object alike."""
    columns = get("adherence")(pictures, pictures, prompts)
    rows = {name: stats.mean(np.asarray(values)).to_json() for name, values in columns.items()}
    return rows | {"all-objects": object_accuracy([parse(p) for p in prompts], read(pictures))}


def generated(pipe: Any, prompts: list[Any], side: int, steps: int, batch: int) -> Iterator[Tensor]:
    for i in range(0, len(prompts), batch):
        some = prompts[i : i + batch]
        texts, seeds = [p.text for p in some], [p.seed for p in some]
        call = call_arguments(
            pipe, texts, seeds, (side, side), steps, TEXT_TOKENS, GUIDANCE, output_type="pt"
        )
        yield pipe(**call).images.float().cpu()


def main(
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("results/mini-flux.json"),
    model: Annotated[str, typer.Option(help="Name or folder.")] = "mini-flux",
    count: Annotated[int, typer.Option(help="Held-out prompts.")] = 256,
    side: int = 64,
    steps: int = 24,
    batch: int = 16,
) -> None:
    """Score the base model on held-out prompts; each holds a combination that training never showed."""
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    source = WorldPrompts(source="world", split="heldout", count=count, seed=11, start=0)
    prompts = load_prompts(source)
    texts = [p.text for p in prompts]
    true = torch.from_numpy(render(sample_scenes(source.seed, source.start, count, source.split), side))
    with torch.no_grad():
        coded = [pipe.vae.encode(x * 2 - 1).latent_dist.mode() for x in true.to(pipe.device).split(batch)]
        vae = torch.cat([pipe.vae.decode(z).sample.clamp(-1, 1).float().cpu() / 2 + 0.5 for z in coded])
        pictures = torch.cat(list(generated(pipe, prompts, side, steps, batch)))
    table = {"generated": pictures, "true scenes": true, "vae reconstructions": vae}
    result: dict[str, Any] = {name: scores(x, texts) for name, x in table.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result | {"n": count, "side": side, "steps": steps, "split": "heldout"})
    for name in table:
        row = {k: round(v if isinstance(v, float) else v["value"], 3) for k, v in result[name].items()}
        print(f"{name}: {row}")


if __name__ == "__main__":
    typer.run(main)
