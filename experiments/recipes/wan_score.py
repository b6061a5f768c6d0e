"""How well mini-wan follows its prompts, and the ceiling that the reader and the VAE set.

python -m experiments.recipes.wan_score --out results/mini-wan.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from ddit_eval import metrics, stats
from ddit_eval.ddit.call import call_arguments
from ddit_eval.experiment.config import MovingPrompts
from ddit_eval.experiment.prompts import Prompt, load_prompts
from ddit_eval.models.load import load_pipeline
from ddit_eval.system.files import write_json
from ddit_eval.world import render_clip, sample_moving_scenes
from experiments.recipes.pipeline import TEXT_TOKENS
from experiments.recipes.wan_pipeline import FRAMES, SIDE

# What the reader finds, and what the world's CLIP says: no network of its kind took part in the training.
METRICS = ("motion-adherence", "overall_consistency-clip-world")


def scores(clips: Tensor, prompts: list[str]) -> dict[str, Any]:
    """Adherence with intervals over prompts; clips (N, F, 3, H, W) in [0, 1]."""
    found = [metrics.get(name)(clips, None, prompts) for name in METRICS]
    return {name: stats.mean(values).to_json() for columns in found for name, values in columns.items()}


def generated(pipe: Any, prompts: list[Prompt], steps: int, guidance: float, batch: int) -> Tensor:
    parts = []
    for i in range(0, len(prompts), batch):
        some = prompts[i : i + batch]
        texts, seeds = [p.text for p in some], [p.seed for p in some]
        call = call_arguments(
            pipe, texts, seeds, (SIDE, SIDE, FRAMES), steps, TEXT_TOKENS, guidance, output_type="pt"
        )
        parts.append(pipe(**call).frames.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def reconstructed(vae: Any, clips: Tensor, batch: int) -> Tensor:
    """Clips (N, F, 3, H, W) in [0, 1] through the VAE and back."""
    parts = []
    for part in clips.to(vae.device, vae.dtype).transpose(1, 2).split(batch):
        z = vae.encode(part * 2 - 1).latent_dist.mode()
        parts.append((vae.decode(z).sample.clamp(-1, 1) / 2 + 0.5).float().cpu().transpose(1, 2))
    return torch.cat(parts)


def main(
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("results/mini-wan.json"),
    model: Annotated[str, typer.Option(help="Name or folder.")] = "mini-wan",
    count: Annotated[int, typer.Option(help="Held-out prompts.")] = 128,
    steps: int = 20,
    guidance: Annotated[float, typer.Option(help="Above 1: two calls a step.")] = 5.0,
    batch: int = 8,
) -> None:
    """Score the base model on held-out prompts; each holds a combination that training never showed."""
    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    source = MovingPrompts(source="moving-world", split="heldout", count=count, seed=11, start=0)
    prompts = load_prompts(source)
    scenes = sample_moving_scenes(source.seed, source.start, count, source.split)
    true = torch.from_numpy(render_clip(scenes, SIDE, FRAMES))
    table = {
        "generated": generated(pipe, prompts, steps, guidance, batch),
        "true scenes": true,
        "vae reconstructions": reconstructed(pipe.vae, true, batch),
    }
    texts = [p.text for p in prompts]
    result: dict[str, Any] = {name: scores(clips, texts) for name, clips in table.items()}
    about = {"n": count, "side": SIDE, "frames": FRAMES, "steps": steps, "guidance": guidance}
    write_json(out, result | about | {"split": "heldout"})
    for name in table:
        print(f"{name}: { {k: round(v['value'], 3) for k, v in result[name].items()} }")


if __name__ == "__main__":
    typer.run(main)
