"""What a distillation run is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ddit_eval.ddit.adapter.detail import DetailConfig
from ddit_eval.ddit.adapter.places import CONFIG, find
from ddit_eval.errors import DditError
from ddit_eval.system.settings import Count, Frames, Guidance, Pixels, Seed, Settings, Steps, checked
from ddit_eval.system.yaml import load_yaml


class Source(Settings):
    """Where clean pictures or clips and their prompts come from.

    world      scenes of the captioned world, drawn
    folder     pictures, each with its prompt in a .txt beside it
    generated  made by the base model for prompts of the world, once, and kept in the run's folder
    """

    kind: Literal["world", "folder", "generated"] = "world"
    path: Path | None = None  # of a folder
    side: Pixels | Annotated[list[Pixels], Field(min_length=1)] = 64  # several: in turn
    frames: Frames = 1  # of a clip
    seed: Seed = 0
    count: Count = 256  # samples that the base model makes
    steps: Steps = 24  # and how
    guidance_scale: Guidance = 3.5

    @model_validator(mode="after")
    def _possible(self) -> Source:
        if self.kind == "folder" and self.frames > 1:
            raise ValueError("a folder holds pictures; clips come from the kinds world and generated")
        if self.kind == "generated" and len(self.sides) > 1:
            raise ValueError(f"side: the base model makes samples of one size, not {self.sides}")
        return self

    @property
    def sides(self) -> list[int]:
        return self.side if isinstance(self.side, list) else [self.side]


class DistilConfig(Settings):
    """Defaults follow the paper where it names them (scales 2 and 4, rank 32)."""

    model: str
    part: Literal["transformer", "transformer_2"] = "transformer"  # of Wan 2.2: each has its own adapter
    out: Path  # for both, the parts' names inside one folder, which `attach` then takes
    scales: tuple[PositiveInt, ...] = (2, 4)
    time: dict[int, PositiveInt] = Field({})  # scale to the latent frames that its patches span, for video
    mixed: bool = False  # each step also learns a random tiling of several sizes, for per-region policies
    rank: Annotated[int, Field(ge=1, le=4096)] = 32
    attention: bool = False  # LoRA on the attention's layers too, which the paper does not have
    detail: DetailConfig = DetailConfig()
    source: Source = Source()
    pictures: Count = 20_000
    batch: Count = 8
    bfloat16: bool = False  # autocast of a float32 base: pays on a GPU and on a CPU with bfloat16 products
    checkpointing: bool = False  # less memory, more time: blocks run again in the backward
    optimizer: Literal["adamw", "prodigy"] = "adamw"
    lr: PositiveFloat = 1e-3
    decay: float = Field(0.5, ge=0, le=1)  # share of the run over which the rate falls to zero
    drop: float = Field(0.05, ge=0, le=1)  # share of empty prompts, for guidance with two calls
    seed: Seed = 0
    begin: str | None = None  # adapter (name or folder) whose weights come first, of this base or a kin
    checkpoint_minutes: PositiveFloat = 2.0
    text_tokens: PositiveInt | None = None  # default: the model's own
    probe_pictures: Count = 64  # unseen pictures in the error table

    @field_validator("scales")
    @classmethod
    def _coarse(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if not scales or min(scales) < 2 or len(set(scales)) < len(scales):
            raise ValueError(f"scales {scales}: name each coarse scale once, all of them above 1")
        return tuple(sorted(scales))


def load_config(path: Path) -> DistilConfig:
    """Read a YAML file; a wrong key or value is one `DditError` that names it."""
    return checked(DistilConfig, load_yaml(path), str(path))


def check_sources(config: DistilConfig) -> None:
    """Raise `DditError` where what the training starts from is not here, before anything is loaded."""
    if config.begin is not None and not (find(config.begin) / CONFIG).is_file():
        raise DditError(f"begin: there is no adapter at {find(config.begin)}; name one, or leave `begin` out")
    folder = config.source.path
    if config.source.kind == "folder" and (folder is None or not folder.is_dir()):
        raise DditError(f"source.path: {folder} is no folder; name one of pictures with .txt prompts")
