"""The small video VAE of mini-wan: 9 frames of 64 x 64 pixels to 3 x 16 x 16 latents of 4 channels.

python -m ddit_eval.mini.wan_vae --out OUT
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from ddit_eval import checkpoint
from ddit_eval.files import write_json
from ddit_eval.mini.vae import psnr
from ddit_eval.mini.wan_pipeline import FRAMES, SIDE, build_wan_vae
from ddit_eval.world import render_clip, sample_moving_scenes

KL_WEIGHT = 2e-4
EVERY = 100  # steps between rows of the log


def clips(seed: int, start: int, count: int, side: int, frames: int = FRAMES) -> Tensor:
    """Training clips in [-1, 1], shape (count, 3, frames, side, side)."""
    drawn = render_clip(sample_moving_scenes(seed, start, count), side, frames)
    return torch.from_numpy(drawn).transpose(1, 2) * 2 - 1


def decode_raw(vae: Any, latents: Tensor) -> Tensor:
    """`vae.decode` before its clamp to [-1, 1], which would stop the gradient of what lies outside."""
    held: list[Tensor] = []
    hook = vae.decoder.register_forward_hook(lambda _m, _a, out: held.append(out))
    try:
        vae.decode(latents)
    finally:
        hook.remove()
    return torch.cat(held, 2)


@torch.no_grad()
def measure(vae: Any, count: int = 64, batch: int = 8) -> tuple[float, Tensor]:
    """PSNR of reconstructions of unseen clips, and their latents (count, C, F, H, W)."""
    x = clips(7, 0, count, SIDE)
    z = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(batch)])
    y = torch.cat([vae.decode(part).sample for part in z.split(batch)])
    return psnr(y, x), z


def step_loss(vae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of clips (B, 3, F, H, W), and their reconstructions."""
    dist = vae.encode(x).latent_dist
    y = decode_raw(vae, dist.sample())
    kl = 0.5 * (dist.mean.square() + dist.var - 1 - dist.logvar).mean()
    return F.mse_loss(y, x) + 0.25 * F.l1_loss(y, x) + KL_WEIGHT * kl, y


def train(
    vae: Any, out: Path, clips_total: int, batch: int, lr: float, crop: int, minutes: float
) -> list[dict[str, float]]:
    """Train in place, the rate decayed over clips or minutes, whichever ends first; rows of the log.

    A second call goes on from the last checkpoint, at most two minutes old.
    """
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    meta = checkpoint.load(out / "checkpoint", {"vae": vae}, optimizer)
    log: list[dict[str, float]] = meta["log"] if meta else []
    step, before = (meta["step"], meta["seconds"]) if meta else (0, 0.0)
    began = saved = time.monotonic()
    steps = max(1, clips_total // batch)
    while True:
        seconds = before + time.monotonic() - began
        done = max(step / steps, seconds / (60 * minutes))
        if done >= 1:
            return log
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 100) * max(0.02, math.cos(0.5 * math.pi * done))
        torch.manual_seed(step)
        i, j = torch.randint(0, SIDE - crop + 1, (2,)).tolist()
        x = clips(0, step * batch, batch, SIDE)[..., i : i + crop, j : j + crop]
        loss, y = step_loss(vae, x)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % EVERY == 0:
            row = {"step": step, "seconds": seconds, "loss": float(loss.detach())}
            log.append(row | {"psnr": psnr(y.detach().clamp(-1, 1), x)})
            print(log[-1], flush=True)
        if time.monotonic() - saved > 120:
            checkpoint.save(
                out / "checkpoint", {"vae": vae}, optimizer, {"step": step, "seconds": seconds, "log": log}
            )
            saved = time.monotonic()


def finish(vae: Any, out: Path, log: list[dict[str, float]]) -> float:
    """Note the latents' statistics in the configuration, as the pipeline reads them, and save in bfloat16."""
    vae.eval()
    quality, z = measure(vae)
    axes = (0, 2, 3, 4)
    vae.register_to_config(latents_mean=z.mean(axes).tolist(), latents_std=z.std(axes).tolist())
    vae.to(torch.bfloat16).save_pretrained(out)
    write_json(out / "training.json", {"psnr": quality, "log": log})
    return quality


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    clips_total: int = 40_000,
    batch: int = 4,
    lr: float = 2e-3,
    crop: Annotated[int, typer.Option(help="Side of the square cut out of each clip, in pixels.")] = 32,
    minutes: Annotated[float, typer.Option(help="Stop, decayed, after this long.")] = 30.0,
) -> None:
    """Train the VAE on clips of the captioned world and save it as a diffusers component."""
    torch.manual_seed(0)
    vae = build_wan_vae()
    log = train(vae, out, clips_total, batch, lr, crop, minutes)
    print("psnr", finish(vae, out, log))


if __name__ == "__main__":
    typer.run(main)
