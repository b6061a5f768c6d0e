"""errors.json beside an adapter: its distillation error, and how it was trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ddit_eval.schema.model import Count, Finite, Json, NotNegative, Result, ResultFile, Share


class ErrorRow(Result):
    """MSE of the velocity over its variance at each timestep. `stage`: "start" or "trained"; `side` in px."""

    scale: Count
    side: Count
    stage: Literal["start", "trained"]
    n: Count
    error: tuple[NotNegative, ...]


class Distillation(ResultFile):
    """errors.json. `timesteps`: 1 is noise; `log`: an entry a logged step; `seconds`: of training."""

    made_by: ClassVar[str] = "`ddit-eval train CONFIG`"
    sealed: ClassVar[bool] = False  # it is part of the adapter's folder, whose hash every row bears

    timesteps: tuple[Share, ...]
    rows: tuple[ErrorRow, ...] = Field(min_length=1)
    n: Count
    seconds: NotNegative
    config: Json
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
