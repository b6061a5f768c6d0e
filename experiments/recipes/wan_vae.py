"""The small video VAE of mini-wan: 9 frames of 64 x 64 pixels to 5 x 16 x 16 latents of 12 channels.

torchrun --nproc-per-node 2 -m experiments.recipes.wan_vae --out OUT
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ddit_eval.ddit.families.video import unnormalised
from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures.reader_lpips import feature_distance
from ddit_eval.system.files import write_json
from ddit_eval.world import render_clip, sample_moving_scenes
from ddit_eval.world.reader import Reader, load_reader
from experiments.recipes.loop import Loop
from experiments.recipes.vae import psnr
from experiments.recipes.wan_pipeline import FRAMES, SIDE, build_wan_vae

KL_WEIGHT = 2e-4
PERCEPTUAL_WEIGHT = 0.5  # the terms are then of one size
ENCODER = ("encoder", "quant_conv")


def clips(seed: int, start: int, count: int, side: int, frames: int = FRAMES) -> Tensor:
    """Training clips in [-1, 1], shape (count, 3, frames, side, side)."""
    drawn = render_clip(sample_moving_scenes(seed, start, count), side, frames)
    return torch.from_numpy(drawn).transpose(1, 2) * 2 - 1


def covered(seed: int, start: int, count: int, side: int, frames: int = FRAMES) -> Tensor:
    """Where the things of `clips` are, (count, 1, frames, side, side), 0 or 1."""
    scenes = sample_moving_scenes(seed, start, count)
    bare = [replace(s, scene=replace(s.scene, things=()), motions=()) for s in scenes]
    differs = (render_clip(scenes, side, frames) != render_clip(bare, side, frames)).any(2, keepdims=True)
    return torch.from_numpy(differs).transpose(1, 2).float()


def decode_raw(vae: Any, latents: Tensor) -> Tensor:
    """`vae.decode` before its clamp to [-1, 1], which would stop the gradient of what lies outside."""
    held: list[Tensor] = []
    hook = vae.decoder.register_forward_hook(lambda _m, _a, out: held.append(out))
    try:
        vae.decode(latents)
    finally:
        hook.remove()
    raw, patch = torch.cat(held, 2), vae.config.patch_size
    return unpatchify(raw, patch) if patch else raw


@torch.no_grad()
def measure(vae: Any, count: int = 64, batch: int = 8) -> tuple[float, Tensor]:
    """PSNR of reconstructions of unseen clips, and their latents (count, C, F, H, W)."""
    x = clips(7, 0, count, SIDE)
    z = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(batch)])
    y = torch.cat([vae.decode(part).sample for part in z.split(batch)])
    return psnr(y, x), z


def step_loss(
    vae: Any, x: Tensor, weight: Tensor | float = 1.0, given: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of clips (B, 3, F, H, W), its pixels weighted (B, 1, F, H, W), and their reconstructions.

    given: latents of the last clips, normalised, to decode instead of the encoder's.
    """
    dist = vae.encode(x if given is None else x[: len(x) - len(given)]).latent_dist
    z = dist.sample()
    y = decode_raw(vae, z if given is None else torch.cat([z, unnormalised(vae, given)]))
    kl = 0.5 * (dist.mean.square() + dist.var - 1 - dist.logvar).mean()
    error = (y - x).abs()
    return (weight * (error.square() + 0.25 * error)).mean() + KL_WEIGHT * kl, y


def frames_of(y: Tensor) -> Tensor:
    """Clips (B, 3, F, H, W) in [-1, 1] as pictures (B * F, 3, H, W) in [0, 1]."""
    return y.transpose(1, 2).flatten(0, 1) / 2 + 0.5


def perceived(reader: Reader, y: Tensor, x: Tensor) -> Tensor:
    """How far clips (B, 3, F, H, W) in [-1, 1] are from others in a network's features, mean over frames.

    The reader has to be another network than the one that judges clips: one trained from another seed.
    """
    ours, theirs = (reader.features(frames_of(part)) for part in (y, x))
    return feature_distance(ours, theirs).mean()


@dataclass(frozen=True)
class Stage:
    """One stretch of training: as many clips, of which each shows a square of `crop` pixels."""

    samples: int
    batch: int
    lr: float
    crop: int
    decay: float
    object_weight: float = 1.0  # of the pixels that things cover, beside the background's 1


@dataclass(frozen=True)
class Plan:
    stages: list[Stage]
    ema: float = 0.99
    seed: int = 0
    unseen: int = 64  # clips that the VAE is measured on


class Trainer(Loop[Any]):
    """The run that trains the VAE."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        vae: Any,
        reader: Reader | None = None,
        renoised: tuple[Tensor, int] | None = None,
    ):
        """reader: see `perceived`. renoised: latents and their clips' seed, for half of each batch."""
        super().__init__(plan, out, vae)
        self.reader, self.renoised = reader, renoised
        for module in (self.student, self.average, *([reader] if reader else [])):
            module.to(self.accelerator.device)

    def losses(self, stage: Stage, first: int) -> tuple[Tensor, Tensor]:
        share = stage.batch // self.processes
        begin = first + self.rank * share
        if self.renoised is None:
            drawn, given = [(self.plan.seed, begin, share)], None
        else:
            latents, seed = self.renoised
            half = share // 2
            at = begin // 2 % (len(latents) - half + 1)
            drawn = [(self.plan.seed, begin, share - half), (seed, at, half)]
            given = latents[at : at + half].float().to(self.accelerator.device)
        i, j = torch.randint(0, SIDE - stage.crop + 1, (2,)).tolist()
        square = (..., slice(i, i + stage.crop), slice(j, j + stage.crop))
        x, things = (
            torch.cat([show(*which, SIDE) for which in drawn])[square].to(self.accelerator.device)
            for show in (clips, covered)
        )
        loss, y = step_loss(self.student, x, 1 + (stage.object_weight - 1) * things, given)
        if self.reader:
            loss = loss + PERCEPTUAL_WEIGHT * perceived(self.reader, y, x)
        return loss, F.mse_loss(y.detach(), x)

    def validate(self, stage: Stage) -> dict[str, float]:
        return {"psnr": measure(self.average, min(16, self.plan.unseen))[0]}

    def export(self, folder: Path) -> None:
        log = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
        kept = not next(self.student.encoder.parameters()).requires_grad
        finish(copy.deepcopy(self.average), self.out / "vae", log, kept, self.plan.unseen)


def keep_encoder(vae: Any, of: Any) -> None:
    """Give `vae` the encoder of another for good, with the statistics of its latents: what a transformer has
    learnt on them still holds, and only the decoder learns."""
    for name in ENCODER:
        getattr(vae, name).load_state_dict(getattr(of, name).state_dict())
        getattr(vae, name).requires_grad_(False)
    vae.register_to_config(latents_mean=of.config.latents_mean, latents_std=of.config.latents_std)


def load_renoised(path: Path) -> tuple[Tensor, int]:
    """What `wan_renoised` wrote: latents, and the seed of the clips that they are of, from clip 0 on."""
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents"), int(file.metadata()["seed"])
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise DditError(
            f"{path} holds no renoised latents ({error}); make them with "
            "`python -m experiments.recipes.wan_renoised --out FILE`"
        ) from error


def finish(vae: Any, out: Path, log: list[dict[str, Any]], kept: bool = False, unseen: int = 64) -> float:
    """Note the latents' statistics in the configuration, as the pipeline reads them, and save in bfloat16.

    kept: the encoder is another VAE's, whose statistics are in the configuration already.
    """
    quality, z = measure(vae, unseen)
    axes = (0, 2, 3, 4)
    if not kept:
        vae.register_to_config(latents_mean=z.mean(axes).tolist(), latents_std=z.std(axes).tolist())
    vae.to(torch.bfloat16).save_pretrained(out)
    write_json(out / "training.json", {"psnr": quality, "log": log})
    return quality


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint and log; the VAE goes to its `vae`.")],
    clips_total: int = 16_000,
    batch: int = 8,
    lr: float = 2e-3,
    crop: Annotated[int, typer.Option(help="Side of the square cut out of each clip, in pixels.")] = 32,
    decay: Annotated[float, typer.Option(help="Share over which the rate falls to zero.")] = 0.7,
    object_weight: Annotated[float, typer.Option(help="Of pixels that things cover.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Of the sequence of clips.")] = 0,
    unseen: Annotated[int, typer.Option(help="Clips that the VAE is measured on.")] = 64,
    begin: Annotated[Path | None, typer.Option(help="VAE whose weights a fresh run begins with.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="VAE whose encoder is taken as it is; the decoder alone learns.")
    ] = None,
    second_reader: Annotated[
        Path | None,
        typer.Option(help="Reader (not the judge) in whose features reconstructions are to be right, too."),
    ] = None,
    renoised: Annotated[
        Path | None,
        typer.Option(help="Latents by `wan_renoised`, half of each batch; with --encoder and whole clips."),
    ] = None,
) -> None:
    """Train the VAE on clips of the captioned world and save it as a diffusers component.

    A second call goes on where the first was stopped.
    """
    if renoised and not (encoder and crop == SIDE):
        raise DditError(f"--renoised needs the --encoder that made its latents, and --crop {SIDE}")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = build_wan_vae()
    if begin:
        vae.load_state_dict(AutoencoderKLWan.from_pretrained(begin, torch_dtype=torch.float32).state_dict())
    if encoder:
        keep_encoder(vae, AutoencoderKLWan.from_pretrained(encoder, torch_dtype=torch.float32))
    plan = Plan([Stage(clips_total, batch, lr, crop, decay, object_weight)], seed=seed, unseen=unseen)
    trainer = Trainer(
        plan,
        out,
        vae,
        load_reader(second_reader) if second_reader else None,
        load_renoised(renoised) if renoised else None,
    )
    trainer.given = {"begin": begin, "encoder": encoder, "second_reader": second_reader, "renoised": renoised}
    trainer.resume()
    trainer.run()


if __name__ == "__main__":
    typer.run(main)
