"""errors.json beside an adapter: its distillation error, and how it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ddit_eval.ddit.adapter.places import CONFIG, WEIGHTS
from ddit_eval.errors import DditError
from ddit_eval.schema.model import Count, Finite, Json, NotNegative, Result, ResultFile, Share, read
from ddit_eval.system.files import digest
from ddit_eval.system.read import file_digest

FILE = "errors.json"


class ErrorRow(Result):
    """MSE of the velocity over its variance at each timestep. `stage`: "start" or "trained"; `side` in px."""

    scale: Count
    side: Count
    stage: Literal["start", "trained"]
    n: Count
    error: tuple[NotNegative, ...]


class Distillation(ResultFile):
    """errors.json. `timesteps`: 1 is noise; `log`: an entry a logged step; `seconds`: of training.

    `inputs`: digests of the base and of what else a training starts from. `adapter`: `adapter_digest`.
    """

    made_by: ClassVar[str] = "`ddit-eval train CONFIG`"

    timesteps: tuple[Share, ...]
    rows: tuple[ErrorRow, ...] = Field(min_length=1)
    n: Count
    seconds: NotNegative
    config: Json
    inputs: Json
    adapter: str
    log: tuple[dict[str, Finite], ...]

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> Distillation:
        scales = self.config.get("scales")
        if not isinstance(scales, list) or not isinstance(self.config.get("model"), str):
            raise ValueError("config does not say the model and its scales")
        if any(f"error_{scale}p" not in entry for entry in self.log for scale in scales):
            raise ValueError(f"log lacks the error of a scale of {scales}")
        for row in self.rows:
            if len(row.error) != len(self.timesteps):
                raise ValueError(
                    f"scale {row.scale} ({row.stage}) has {len(row.error)} errors for {len(self.timesteps)} "
                    "timesteps"
                )
        return self


def adapter_digest(folder: Path) -> str:
    """12 hex digits of an adapter's configuration and weights."""
    return digest([file_digest(folder / name) for name in (CONFIG, WEIGHTS)])


def load(file: Path, adapter: Path | None) -> Distillation | None:
    """An errors.json, or None where there is none. adapter: the folder of its adapter, where that is known.

    Raises `DditError` where it is damaged, was changed by hand or is not of this adapter.
    """
    if not file.exists():
        return None
    found = read(file, Distillation)
    if adapter is not None and adapter_digest(adapter) != found.adapter:
        why = f"{file} is of an adapter with other files than {adapter} holds"
        raise DditError(f"{why}; make it anew: {found.made_by}")
    return found
