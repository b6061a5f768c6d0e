"""Training mini-flux on the captioned world by flow matching.

    torchrun --nproc-per-node 2 -m experiments.recipes.train PLAN --vae VAE --out OUT

PLAN is experiments/recipes/mini-flux.yaml or one like it.

One process a device, or one a CPU core: on a busy machine single-threaded processes lose less than
one process with several threads, which waits for its slowest thread at every operation.

The picture grows from stage to stage (32, 64, 128 px). The text encoders learn with the
transformer. Small auxiliary heads ask the middle of the transformer which shape, colour and texture
each token belongs to and where on its object it lies, and the second text encoder where each object
will stand; they are dropped after training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, FluxPipeline
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.world import Scene, caption, render, sample_scenes
from experiments.recipes.auxiliary import ANSWERS, GROUPS, Prediction, label_loss, measures, velocity_loss
from experiments.recipes.labels import token_labels, token_offsets
from experiments.recipes.loop import Loop, sample_timesteps, shift_of
from experiments.recipes.pipeline import TEXT_TOKENS, build_pipeline, save
from experiments.recipes.plan import load_plan
from experiments.recipes.window import nearest_scenes, place_window, window_index
from experiments.recipes.words import PLACE_WEIGHT, WordHead, at_shapes, shape_ids

POOL = 6  # scenes drawn for each one that a window is filled from
MIDDLE = 2  # single-stream block whose tokens the auxiliary head reads


class Cut(BaseModel):
    """What a batch shows of its scenes."""

    model_config = ConfigDict(extra="forbid")
    side: int  # of the whole picture, in pixels
    batch: int
    window: int = 0  # side in tokens of the cut-out around an object; 0: the whole picture
    favour: dict[str, float] = {}  # weight of a shape, beside the others' 1, where cut-outs are chosen


class Stage(Cut):
    """One stretch of training. Step i shows the i-th of its own cut and `others`, round and round."""

    others: list[Cut] = []
    pictures: int
    lr: float
    decay: float = 0.3  # share of the stage over which the learning rate falls to zero
    guidance: float = 1.0  # above 1: learn the guided velocity of the model as the last stage left it
    drop: float = 0.1  # share of captions that are left empty
    auxiliary: float = 0.1  # weight of the token labels
    object_weight: float = 1.0  # weight of the tokens that objects cover, beside the background's 1

    @model_validator(mode="after")
    def _no_scene_twice(self) -> Stage:
        if any(cut.batch > self.batch for cut in self.others):
            raise ValueError(f"others: no batch may be larger than the stage's own, {self.batch}")
        return self

    @property
    def samples(self) -> int:
        return self.pictures

    def at(self, step: int) -> Stage:
        """This stage with the cut of one step."""
        turn = step % (1 + len(self.others))
        return self.model_copy(update=self.others[turn - 1].model_dump()) if turn else self


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stages: list[Stage]
    ema: float = 0.995
    seed: int = 0
    unseen: int = 64  # scenes that the averaged model is measured on


@dataclass
class Batch:
    latents: Tensor  # (B, N, 4 C) packed, normalised
    captions: list[str]
    labels: Tensor  # (B, N, 3) shape, colour, texture; 0 for none
    offsets: Tensor  # (B, N, 2) from the object's centre, in radii
    scenes: list[Scene]
    ids: Tensor  # (N, 3) positions


def pack(latents: Tensor) -> Tensor:
    """(B, C, H, W) to FLUX tokens (B, H/2 * W/2, 4 C), channel first within a token."""
    b, c, h, w = latents.shape
    grid = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(b, (h // 2) * (w // 2), 4 * c)


def image_ids(side: int) -> Tensor:
    """FLUX's position ids of a square picture of `side` tokens; (N, 3)."""
    ids = torch.zeros(side, side, 3)
    ids[..., 1] += torch.arange(side)[:, None]
    ids[..., 2] += torch.arange(side)[None, :]
    return ids.reshape(-1, 3)


class Student(nn.Module):
    """Text encoders and transformer as one module that maps noise and captions to velocity."""

    def __init__(self, pipe: Any):
        super().__init__()
        self.clip, self.t5, self.transformer = pipe.text_encoder, pipe.text_encoder_2, pipe.transformer
        self.labels = nn.Linear(self.transformer.inner_dim, ANSWERS)
        self.words = WordHead(self.t5.config.d_model)

    def forward(
        self, x: Tensor, t: Tensor, clip_ids: Tensor, t5_ids: Tensor, positions: Tensor
    ) -> Prediction:
        """`positions` (N, 3), the other arguments as the transformer and the text encoders take them."""
        pooled = self.clip(clip_ids).pooler_output
        text = self.t5(t5_ids).last_hidden_state
        held: list[Tensor] = []
        middle = self.transformer.single_transformer_blocks[MIDDLE]
        handle = middle.register_forward_hook(lambda _m, _a, out: held.append(out[1]))
        try:
            v = self.transformer(
                hidden_states=x,
                timestep=t,
                pooled_projections=pooled,
                encoder_hidden_states=text,
                txt_ids=torch.zeros(text.shape[1], 3),
                img_ids=positions,
                return_dict=False,
            )[0]
        finally:
            handle.remove()
        labels, offsets = self.labels(held[0]).float().split((sum(GROUPS), 2), -1)
        return Prediction(v, labels, offsets, text)


class Trainer(Loop[Student]):
    """The run that trains mini-flux."""

    def __init__(self, plan: Plan, vae_path: Path, out: Path, begin: Path | None = None):
        self.vae = AutoencoderKL.from_pretrained(vae_path, torch_dtype=torch.float32).eval()
        self.pipe = build_pipeline(self.vae, plan.seed)
        super().__init__(plan, out, Student(self.pipe))
        self.shape_ids = shape_ids(self.pipe.tokenizer_2)
        self.begin = begin
        self.teacher = self.average

    def ids(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        def padded(tokenizer: Any) -> Tensor:
            return tokenizer(
                captions, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
            ).input_ids

        return padded(self.pipe.tokenizer), padded(self.pipe.tokenizer_2)

    @torch.no_grad()
    def batch(self, stage: Stage, seed: int, start: int, count: int) -> Batch:
        words = np.random.default_rng([seed, 9, start])
        side = stage.side // 4
        index = torch.arange(side * side)
        if stage.window:
            pool = sample_scenes(seed, start * POOL, count * POOL)
            corner = place_window(pool[0], side, stage.window, words, stage.favour)
            scenes = nearest_scenes(pool, corner, side, stage.window, count, stage.favour)
            index = window_index(corner, side, stage.window)
        else:
            scenes = sample_scenes(seed, start, count)
        pictures = torch.from_numpy(render(scenes, stage.side)) * 2 - 1
        z = self.vae.encode(pictures).latent_dist.mode()
        z = (z - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        captions = ["" if words.random() < stage.drop else caption(s, words) for s in scenes]
        labels, offsets = token_labels(scenes, side)[:, index], token_offsets(scenes, side)[:, index]
        return Batch(pack(z)[:, index], captions, labels, offsets, scenes, image_ids(side)[index])

    def target(
        self, stage: Stage, x: Tensor, t: Tensor, batch: Batch, ids: tuple[Tensor, Tensor], v: Tensor
    ) -> Tensor:
        """The data's velocity `v`; under guidance the guided velocity of the teacher, which is the same
        target without the data's noise.

        The teacher stays as it was: guided by its own guided output, the model would run away.
        """
        if stage.guidance == 1:
            return v
        with torch.no_grad():
            clip_ids, t5_ids = self.ids([""] * len(x))
            told = self.teacher(x, t, *ids, batch.ids).velocity
            blind = self.teacher(x, t, clip_ids, t5_ids, batch.ids).velocity
        return blind + stage.guidance * (told - blind)

    def loss(self, stage: Stage, batch: Batch) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(batch.latents)
        t = sample_timesteps(len(noise), shift_of((stage.side // 4) ** 2))
        mix = t[:, None, None]
        x = (1 - mix) * batch.latents + mix * noise
        ids = self.ids(batch.captions)
        target = self.target(stage, x, t, batch, ids, noise - batch.latents)
        said = self.student(x, t, *ids, batch.ids)
        error = velocity_loss(said, target, batch.labels, stage.object_weight)
        second = label_loss(said, batch.labels, batch.offsets) + self.word_loss(said, ids[1], batch)
        return error, second

    def word_loss(self, said: Prediction, t5_ids: Tensor, batch: Batch) -> Tensor:
        """The grammar that `experiments.recipes.words` taught must not be forgotten."""
        found = at_shapes(said.text, t5_ids, batch.scenes, self.shape_ids)
        if found is None:
            return said.text.sum() * 0
        places, looks = self.student.words.loss(*found)
        return PLACE_WEIGHT * places + looks

    def losses(self, stage: Stage, first: int) -> tuple[Tensor, Tensor]:
        stage = stage.at(self.step)
        share = stage.batch // self.processes
        batch = self.batch(stage, self.plan.seed, first + self.rank * share, share)
        velocity, labels = self.loss(stage, batch)
        return velocity + stage.auxiliary * labels, velocity

    @torch.no_grad()
    def validate(self, stage: Stage) -> dict[str, float]:
        """The averaged model on unseen scenes, whole pictures, at fixed noise."""
        torch.manual_seed(1)
        count = self.plan.unseen
        whole = Stage(side=stage.side, pictures=0, batch=count, lr=0, drop=0)
        batch = self.batch(whole, 10_007, 0, count)
        noise = torch.randn_like(batch.latents)
        t = torch.linspace(0.02, 1, count)
        x = (1 - t[:, None, None]) * batch.latents + t[:, None, None] * noise
        said = self.average(x, t, *self.ids(batch.captions), batch.ids)
        return measures(said, noise - batch.latents, batch.labels)

    def load_weights(self, part: Student, folder: Path) -> None:
        """Fill `part` with the weights of an exported pipeline."""
        old: Any = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        part.clip.load_state_dict(old.text_encoder.state_dict())
        part.t5.load_state_dict(old.text_encoder_2.state_dict())
        part.transformer.load_state_dict(old.transformer.state_dict())

    def prepare(self, stage: Stage) -> None:
        """What the last stage exported (or the run began with) guides this one, also after a restart."""
        folder = self.exported(self.stage - 1) if self.stage else self.begin
        if stage.guidance > 1 and folder is None:
            raise DditError(
                f"guidance {stage.guidance} needs a teacher: put a stage without it before, or give --begin"
            )
        if stage.guidance > 1 and folder:
            self.teacher = copy.deepcopy(self.average)
            self.load_weights(self.teacher, folder)

    def export(self, folder: Path) -> None:
        """Write the averaged model as a FluxPipeline folder in bfloat16."""
        pipe = build_pipeline(copy.deepcopy(self.vae), self.plan.seed)
        pipe.text_encoder.load_state_dict(self.average.clip.state_dict())
        pipe.text_encoder_2.load_state_dict(self.average.t5.state_dict())
        pipe.transformer.load_state_dict(self.average.transformer.state_dict())
        save(pipe, folder)


def main(
    plan: Annotated[Path, typer.Argument(help="YAML with the stages.")],
    vae: Annotated[Path, typer.Option(help="The trained VAE's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and a pipeline a stage.")],
    begin: Annotated[
        Path | None, typer.Option(help="Pipeline whose weights a fresh run begins with.")
    ] = None,
) -> None:
    """Train mini-flux; a second call goes on where the first was stopped."""
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(load_plan(plan, Plan), vae, out, begin)
    trainer.given = {"vae": vae, "begin": begin}
    if not trainer.resume() and begin:
        trainer.load_weights(trainer.student, begin)
        trainer.load_weights(trainer.average, begin)
    trainer.run()


if __name__ == "__main__":
    typer.run(main)
