"""errors.json beside an adapter: its distillation error, and how it was trained."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

from ddit_eval.schema.model import Json, Result, ResultFile


class ErrorRow(Result):
    """MSE of the velocity over its variance at each timestep. `stage`: "start" or "trained"; `side` in px."""

    scale: int
    side: int
    stage: str
    n: int
    error: tuple[float, ...]


class Distillation(ResultFile):
    """errors.json. `timesteps`: 1 is noise; `log`: an entry a logged step; `seconds`: of training."""

    made_by: ClassVar[str] = "`ddit-eval train CONFIG`"

    timesteps: tuple[float, ...]
    rows: tuple[ErrorRow, ...]
    n: int
    seconds: float
    config: Json
    log: tuple[Json, ...]

    @model_validator(mode="after")
    def _one_error_a_timestep(self) -> Distillation:
        for row in self.rows:
            if len(row.error) != len(self.timesteps):
                raise ValueError(
                    f"scale {row.scale} ({row.stage}) has {len(row.error)} errors for {len(self.timesteps)} "
                    "timesteps"
                )
        return self
