"""The small VAE of mini-flux: 64 x 64 pixels to 32 x 32 latents of 3 channels.

    python -m experiments.recipes.vae --out OUT

Three channels keep what a 4p patch must emit (3 x 8 x 8 = 192 values) well below the
transformer's hidden size, as in FLUX.1 (1,024 values from 3,072).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from diffusers import AutoencoderKL

from ddit_eval.world import render, sample_scenes

LATENT_CHANNELS = 3


def build_vae() -> Any:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(16, 48),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def pictures(seed: int, start: int, count: int, side: int) -> torch.Tensor:
    """Training pictures in [-1, 1], shape (count, 3, side, side)."""
    return torch.from_numpy(render(sample_scenes(seed, start, count), side)) * 2 - 1


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    """Peak signal to noise of pictures in [-1, 1], in dB."""
    return float(-10 * torch.log10(((x - y) / 2).square().mean()))


@torch.no_grad()
def measure(vae: Any, side: int, count: int) -> tuple[float, torch.Tensor]:
    """PSNR of reconstructions of unseen scenes, and their latents."""
    x = pictures(7, 0, count, side)
    z = vae.encode(x).latent_dist.mode()
    return psnr(vae.decode(z).sample.clamp(-1, 1), x), z


def train(
    out: Path, pictures_total: int, batch: int, lr: float, crop: int, minutes: float, unseen: int
) -> None:
    torch.manual_seed(0)
    vae = build_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    steps = pictures_total // batch
    began = time.monotonic()
    log: list[dict[str, float]] = []
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - began) / (60 * minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 100) * max(0.02, math.cos(0.5 * math.pi * done))
        x = pictures(0, step * batch, batch, 64)
        i, j = torch.randint(0, 64 - crop + 1, (2,)).tolist()
        x = x[..., i : i + crop, j : j + crop]
        dist = vae.encode(x).latent_dist
        y = vae.decode(dist.sample()).sample
        kl = 0.5 * (dist.mean.square() + dist.var - 1 - dist.logvar).mean()
        loss = F.mse_loss(y, x) + 0.25 * F.l1_loss(y, x) + 2e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            row = {
                "step": step,
                "seconds": time.monotonic() - began,
                "loss": float(loss.detach()),
                "psnr": psnr(y.detach(), x),
            }
            log.append(row)
            print(json.dumps(row), flush=True)
    vae.eval()
    quality, z = measure(vae, 64, unseen)
    # The pipeline feeds (z - shift) * scale to the transformer: unit variance, zero mean.
    shift, scale = float(z.mean()), float(1 / z.std())
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    vae.to(torch.bfloat16).save_pretrained(out)
    summary = {"psnr_64": quality, "psnr_128": measure(vae.float(), 128, unseen // 4)[0], "log": log}
    (out / "training.json").write_text(json.dumps(summary, indent=1))
    print(quality, summary["psnr_128"], shift, scale, "std per channel", z.std((0, 2, 3)).tolist())


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    pictures_total: int = 100_000,
    batch: int = 8,
    lr: float = 2e-3,
    crop: int = 32,
    minutes: Annotated[float, typer.Option(help="Stop, decayed, after this long.")] = 6.0,
    unseen: Annotated[int, typer.Option(help="Scenes that the VAE is measured on.")] = 128,
) -> None:
    """Train the VAE on the captioned world and save it as a diffusers component."""
    train(out, pictures_total, batch, lr, crop, minutes, unseen)


if __name__ == "__main__":
    typer.run(main)
