"""Training mini-wan on moving scenes by flow matching.

    torchrun --nproc-per-node 2 -m experiments.recipes.wan_train PLAN --vae VAE --out OUT

PLAN is experiments/recipes/mini-wan.yaml or one like it. A stage shows whole clips or their first frame
alone, which has a third of the tokens. The text encoder is taught the grammar before the first stage and
learns on with the transformer. Some captions are left empty, for guidance with two calls. A stage with
`perceptual` also shows what it guesses to a reader (--second-reader).
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import AutoencoderKLWan, WanPipeline
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ddit_eval.ddit.families.video import normalised, patchify, unnormalised, unpatchify
from ddit_eval.errors import DditError
from ddit_eval.metrics.films.motion_adherence import motion_columns
from ddit_eval.world import MovingScene, caption_clip, render_clip, sample_moving_scenes
from ddit_eval.world.motion import times
from ddit_eval.world.reader import Reader, load_reader
from experiments.recipes.auxiliary import ANSWERS, GROUPS, Prediction, label_loss, measures, velocity_loss
from experiments.recipes.labels import token_labels, token_offsets
from experiments.recipes.loop import Loop, sample_timesteps
from experiments.recipes.pipeline import TEXT_TOKENS, save
from experiments.recipes.plan import load_plan
from experiments.recipes.wan_perceptual import cell_labels, reading_loss
from experiments.recipes.wan_pipeline import (
    FLOW_SHIFT,
    FRAMES,
    SIDE,
    TOKEN_SIDE,
    build_wan_pipeline,
    latent_frames,
)
from experiments.recipes.wan_vae import decode_raw, frames_of
from experiments.recipes.wan_words import ClipHead, teach_clips
from experiments.recipes.words import PLACE_WEIGHT, at_shapes, shape_ids

MIDDLE = 2  # block whose tokens the auxiliary head reads


class Stage(BaseModel):
    """One stretch of training."""

    model_config = ConfigDict(extra="forbid")
    clips: NonNegativeInt
    batch: int = Field(ge=1)
    lr: float
    side: int = SIDE  # pixels
    whole: bool = True  # False: the clip's first frame alone
    decay: float = 0.3  # share of the stage over which the learning rate falls to zero
    drop: float = 0.1  # share of captions that are left empty
    auxiliary: float = 0.3  # weight of what is asked of tokens and words
    object_weight: float = 1.0  # weight of the tokens that objects cover, beside the background's 1
    perceptual: float = 0.0  # weight of the loss of `wan_perceptual`, on half of the batch
    perceptual_until: float = 0.85  # flow time; from noisier latents no guess is shown

    @property
    def samples(self) -> int:
        return self.clips


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stages: list[Stage]
    captions: NonNegativeInt = 0  # read by the text encoder before the first stage
    ema: float = 0.995
    seed: int = 0
    unseen: int = 32  # clips that the averaged model is measured on
    bfloat16: bool = False  # autocast: pays on a GPU and on a CPU with bfloat16 products


@dataclass
class Batch:
    x: Tensor  # (B, 3, F, H, W) in [-1, 1]
    latents: Tensor  # (B, C, F, H, W) normalised
    captions: list[str]
    labels: Tensor  # (B, N, 3) shape, colour, texture; 0 for none
    offsets: Tensor  # (B, N, 2) from the object's centre, in radii
    clips: list[MovingScene]


def token_targets(clips: list[MovingScene], side: int, moments: list[float]) -> tuple[Tensor, Tensor]:
    """What each base token shows at `moments` (0..1), one a latent frame, `side` tokens a side.

    Labels (B, N, 3) and offsets (B, N, 2), as `token_labels` and `token_offsets` give them.
    """
    scenes = [clip.at(moment) for clip in clips for moment in moments]
    parts = token_labels(scenes, side), token_offsets(scenes, side)
    labels, offsets = (part.unflatten(0, (len(clips), len(moments))).flatten(1, 2) for part in parts)
    return labels, offsets


def plain_attention(x: Tensor) -> AbstractContextManager[None]:
    """On a CPU and at a few hundred tokens the backward of the fused attention costs a third of a training
    step; as two products the step takes 1.3 times less."""
    return nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH)


class Student(nn.Module):
    """Text encoder and transformer as one module that maps noise and captions to velocity."""

    def __init__(self, pipe: Any):
        super().__init__()
        self.encoder, self.transformer = pipe.text_encoder, pipe.transformer
        config = self.transformer.config
        self.labels = nn.Linear(config.num_attention_heads * config.attention_head_dim, ANSWERS)
        self.words = ClipHead(self.encoder.config.d_model)

    def forward(self, x: Tensor, t: Tensor, ids: Tensor, mask: Tensor) -> Prediction:
        """x (B, C, F, H, W) at times t (B,) in 0..1; ids and mask (B, T). The velocity in base tokens."""
        text = self.encoder(ids, attention_mask=mask).last_hidden_state
        held: list[Tensor] = []
        middle = self.transformer.blocks[MIDDLE]
        handle = middle.register_forward_hook(lambda _m, _a, out: held.append(out))
        try:
            # As in WanPipeline, the text is zero where the prompt has ended.
            told = text * mask[..., None]
            with plain_attention(x):
                v = self.transformer(x, t * 1000, told, return_dict=False)[0]
        finally:
            handle.remove()
        labels, offsets = self.labels(held[0]).float().split((sum(GROUPS), 2), -1)
        return Prediction(patchify(v), labels, offsets, text)


class Trainer(Loop[Student]):
    """The run that trains mini-wan."""

    def __init__(self, plan: Plan, vae_path: Path, out: Path, reader: Reader | None = None):
        """reader: a reader that is not the judge; see `wan_perceptual`."""
        if reader is None and any(stage.perceptual for stage in plan.stages):
            raise DditError(
                "a stage has `perceptual`: give the reader that is to look, --second-reader FOLDER"
            )
        self.vae = AutoencoderKLWan.from_pretrained(vae_path, torch_dtype=torch.float32).eval()
        self.pipe = build_wan_pipeline(self.vae, plan.seed)
        super().__init__(plan, out, Student(self.pipe))
        self.vae.requires_grad_(False)
        self.reader = reader
        # Not `self.student.to(...)` alone: the average and the VAE have to follow.
        for module in (self.student, self.average, self.vae, *([reader] if reader else [])):
            module.to(self.accelerator.device)
        self.shape_ids = shape_ids(self.pipe.tokenizer).to(self.accelerator.device)

    def compile(self) -> None:
        """Compile what the student's blocks compute; not the blocks with their hooks, since the one that is
        read would be compiled anew at every step."""
        for block in self.student.transformer.blocks:
            block.forward = torch.compile(block.forward)

    def teach(self) -> None:
        """The grammar before the first clip, for a fresh run; every process learns the same."""
        if not self.plan.captions:
            return
        encoder = self.student.encoder.cpu()
        rms = teach_clips(encoder, self.pipe.tokenizer, self.plan.captions, 48, 3e-3, self.plan.seed + 41)
        encoder.to(self.accelerator.device)
        self.average.encoder.load_state_dict(encoder.state_dict())
        print({"taught": self.plan.captions, "place_rms": rms}, flush=True)

    def begin(self, folder: Path) -> None:
        """Take over the weights of an exported pipeline; the heads that ask tokens and words start anew."""
        old: Any = WanPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        for part in (self.student, self.average):
            part.encoder.load_state_dict(old.text_encoder.state_dict())
            part.transformer.load_state_dict(old.transformer.state_dict())

    def ids(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        tokens = self.pipe.tokenizer(
            captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        ).to(self.accelerator.device)
        return tokens.input_ids, tokens.attention_mask

    @torch.no_grad()
    def batch(self, stage: Stage, seed: int, start: int, count: int) -> Batch:
        """Clips `start` to `start + count` of the sequence `seed`."""
        words = np.random.default_rng([seed, 9, start])
        clips = sample_moving_scenes(seed, start, count)
        frames = FRAMES if stage.whole else 1
        pictures = render_clip(clips, stage.side, FRAMES)[:, :frames]
        x = torch.from_numpy(pictures).transpose(1, 2).to(self.accelerator.device) * 2 - 1
        z = normalised(self.vae, self.vae.encode(x).latent_dist.mode())
        captions = ["" if words.random() < stage.drop else caption_clip(c, words) for c in clips]
        factor = self.vae.config.scale_factor_temporal
        moments = [frame / (FRAMES - 1) for frame in latent_frames(frames, factor)]
        labels, offsets = token_targets(clips, stage.side // TOKEN_SIDE, moments)
        return Batch(x, z, captions, labels.to(z.device), offsets.to(z.device), clips)

    def losses(self, stage: Stage, first: int) -> tuple[Tensor, Tensor]:
        share = stage.batch // self.processes
        batch = self.batch(stage, self.plan.seed, first + self.rank * share, share)
        noise = torch.randn(batch.latents.shape).to(batch.latents.device)
        t = sample_timesteps(share, FLOW_SHIFT).to(noise.device)
        ids, mask = self.ids(batch.captions)
        x = flow(batch.latents, noise, t)
        said = self.student(x, t, ids, mask)
        target = patchify(noise - batch.latents)
        error = velocity_loss(said, target, batch.labels, stage.object_weight)
        second = label_loss(said, batch.labels, batch.offsets) + self.word_loss(said, ids, batch)
        loss = error + stage.auxiliary * second
        if self.reader and stage.perceptual:
            loss = loss + stage.perceptual * self.perceptual_loss(
                stage, self.reader, batch, x, t, said.velocity
            )
        return loss, error

    def perceptual_loss(
        self, stage: Stage, reader: Reader, batch: Batch, x: Tensor, t: Tensor, v: Tensor
    ) -> Tensor:
        """What the reader makes of the guesses at half of the clips, of those that are not too noisy.

        x (B, C, F, H, W) at times t (B,); velocity v (B, N, V) in base tokens.
        """
        shown = (t < stage.perceptual_until).nonzero().flatten()[: max(1, len(t) // 2)]
        if not len(shown):
            return v.sum() * 0
        true, clips = batch.x[shown], [batch.clips[i] for i in shown.tolist()]
        cells = cell_labels(clips, times(FRAMES)[: true.shape[2]], stage.side).to(true.device)
        return reading_loss(reader, self.guess(x[shown], t[shown], v[shown]), true, cells)

    def guess(self, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """The clean clips that x and v point to, decoded: (B, 3, F, H, W), about in [-1, 1]."""
        z = x - t[:, None, None, None, None] * unpatchify(v, x.shape)
        return torch.cat([decode_raw(self.vae, part) for part in unnormalised(self.vae, z).split(8)])

    def word_loss(self, said: Prediction, ids: Tensor, batch: Batch) -> Tensor:
        """The grammar that was taught must not be forgotten."""
        found = at_shapes(said.text, ids, batch.clips, self.shape_ids)
        if found is None:
            return said.text.sum() * 0
        places, looks = self.student.words.loss(*found)
        return PLACE_WEIGHT * places + looks

    @torch.no_grad()
    def validate(self, stage: Stage) -> dict[str, float]:
        """The averaged model on unseen clips, at fixed noise."""
        torch.manual_seed(1)
        count = self.plan.unseen
        fixed = stage.model_copy(update={"drop": 0.0})
        batch = self.batch(fixed, 10_007, 0, count)
        noise = torch.randn(batch.latents.shape).to(batch.latents.device)
        t = torch.linspace(0.02, 1, count, device=noise.device)
        said = self.average(flow(batch.latents, noise, t), t, *self.ids(batch.captions))
        found = measures(said, patchify(noise - batch.latents), batch.labels)
        # Decoding takes seconds: only where the stage trains by it.
        return found | ({"objects_seen": self.objects_seen(batch, noise)} if stage.perceptual else {})

    @torch.no_grad()
    def objects_seen(self, batch: Batch, noise: Tensor, at: float = 0.6) -> float:
        """Share of frames in which the judge finds what the caption says, in guesses from time `at`."""
        t = torch.full((len(noise),), at, device=noise.device)
        x = flow(batch.latents, noise, t)
        frames = frames_of(self.guess(x, t, self.average(x, t, *self.ids(batch.captions)).velocity))
        found = motion_columns(frames.clamp(0, 1).unflatten(0, (len(noise), -1)), batch.captions)
        return float(np.nanmean(found["object-frames"]))

    def export(self, folder: Path) -> None:
        """Write the averaged model as a WanPipeline folder in bfloat16."""
        pipe = build_wan_pipeline(copy.deepcopy(self.vae), self.plan.seed)
        pipe.text_encoder.load_state_dict(self.average.encoder.state_dict())
        pipe.transformer.load_state_dict(self.average.transformer.state_dict())
        save(pipe, folder)


def flow(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """(1 - t) latents + t noise; t (B,), the others (B, C, F, H, W)."""
    mix = t[:, None, None, None, None]
    return (1 - mix) * latents + mix * noise


def main(
    plan: Annotated[Path, typer.Argument(help="YAML with the stages.")],
    vae: Annotated[Path, typer.Option(help="The trained VAE's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and a pipeline a stage.")],
    begin: Annotated[
        Path | None, typer.Option(help="Pipeline whose weights a fresh run begins with.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option(help="Compile the blocks: 1.4 times as fast; a CPU needs a C++ compiler.")
    ] = False,
    second_reader: Annotated[
        Path | None, typer.Option(help="Reader (not the judge) that looks, in stages with `perceptual`.")
    ] = None,
) -> None:
    """Train mini-wan; a second call goes on where the first was stopped."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(load_plan(plan, Plan), vae, out, load_reader(second_reader) if second_reader else None)
    trainer.given = {"vae": vae, "begin": begin, "second_reader": second_reader}
    if compiled:
        trainer.compile()
    if not trainer.resume():
        if begin:
            trainer.begin(begin)
        else:
            trainer.teach()
    trainer.run()


if __name__ == "__main__":
    typer.run(main)
