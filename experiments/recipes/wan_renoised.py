"""Latents of clips, noised in part and denoised by mini-wan's transformer, for its decoder to learn from.

    python -m experiments.recipes.wan_renoised --model mini-wan --out RENOISED.safetensors

A decoder that has only seen its own encoder's latents takes a transformer's errors in local detail for
detail. Here the layout is the clip's own, the last detail is the transformer's.
`experiments.recipes.wan_vae --renoised` trains the decoder to give the true clips back from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from ddit_eval.ddit.families.video import normalised
from ddit_eval.models.load import load_pipeline
from ddit_eval.world import caption_clip, sample_moving_scenes
from experiments.recipes.pipeline import TEXT_TOKENS
from experiments.recipes.wan_pipeline import SIDE
from experiments.recipes.wan_train import flow
from experiments.recipes.wan_vae import clips

NOISED = (0.1, 0.45)  # flow times to which clips are noised; from later ones things come back elsewhere
STEPS = 3  # Euler steps from there; the pipeline's twenty have four below .3


@torch.no_grad()
def denoised(pipe: Any, z: Tensor, t: Tensor, captions: list[str], guidance: float) -> Tensor:
    """Latents z (B, C, F, H, W) at times t (B,) taken to time 0 by Euler steps, with two calls a step."""
    told = pipe.encode_prompt(captions, None, True, 1, max_sequence_length=TEXT_TOKENS)
    for step in range(STEPS):
        now = t * (1 - step / STEPS)
        v, without = (pipe.transformer(z, now * 1000, text, return_dict=False)[0] for text in told)
        z = z - (t / STEPS)[:, None, None, None, None] * torch.lerp(without, v, guidance)
    return z


@torch.no_grad()
def renoised(pipe: Any, seed: int, start: int, count: int, guidance: float) -> Tensor:
    """Clips `start` to `start + count` as the transformer leaves them, normalised (count, C, F, H, W)."""
    rng = np.random.default_rng([seed, 17, start])
    captions = [caption_clip(scene, rng) for scene in sample_moving_scenes(seed, start, count)]
    z = normalised(pipe.vae, pipe.vae.encode(clips(seed, start, count, SIDE)).latent_dist.mode())
    t = torch.from_numpy(rng.uniform(*NOISED, count)).float()
    noise = torch.from_numpy(rng.standard_normal(z.shape)).float()
    return denoised(pipe, flow(z, noise, t), t, captions, guidance)


def main(
    out: Annotated[Path, typer.Option(help="File to write, safetensors.")],
    model: Annotated[str, typer.Option(help="Name or folder of the pipeline.")] = "mini-wan",
    count: int = 1536,
    batch: int = 8,
    guidance: Annotated[float, typer.Option(help="As it will be sampled with.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the sequence of clips.")] = 40,
) -> None:
    """Write the latents of clips as the transformer leaves them."""
    pipe = load_pipeline(model).to(torch.float32)
    parts = [renoised(pipe, seed, at, batch, guidance) for at in track(range(0, count, batch))]
    save_file({"latents": torch.cat(parts).half()}, out, {"seed": str(seed)})


if __name__ == "__main__":
    typer.run(main)
