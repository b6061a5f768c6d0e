"""A row's cache, scheduler and setup as an experiment writes them; light, nothing of diffusers is imported.

The options of a cache are the fields of diffusers' own configuration class, and what is not given is as
diffusers has it. Fields that take a function are left out, and those that follow from the row are filled in.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from ddit_eval.errors import DditError
from ddit_eval.system.settings import Settings

Range: TypeAlias = tuple[float, float]  # of timesteps, 0 to 1000; each end excluded
Patterns: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]  # regular expressions of module names
Number: TypeAlias = Annotated[float, Field(ge=0)]
Natural: TypeAlias = Annotated[int, Field(ge=0)]


class FirstBlock(Settings):
    kind: Literal["first-block"]
    threshold: Number | None = None


class TaylorSeer(Settings):
    kind: Literal["taylorseer"]
    cache_interval: PositiveInt | None = None
    disable_cache_before_step: Natural | None = None
    disable_cache_after_step: Natural | None = None
    max_order: Natural | None = None
    taylor_factors_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    skip_predict_identifiers: Patterns | None = None
    cache_identifiers: Patterns | None = None
    use_lite_mode: bool | None = None


class Mag(Settings):
    """`mag_ratios`: measured on a run of the base where not given."""

    kind: Literal["mag"]
    threshold: Number | None = None
    max_skip_steps: Natural | None = None
    retention_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    mag_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None


class Sea(Settings):
    kind: Literal["sea"]
    threshold: Number | None = None
    residual_order: Literal[0, 1] | None = None
    retention_steps: Natural | None = None
    cache_end_steps: Natural | None = None
    max_consecutive_cached: Natural | None = None
    power_exp: PositiveFloat | None = None


class PyramidAttention(Settings):
    kind: Literal["pyramid-attention"]
    spatial_attention_block_skip_range: PositiveInt | None = None
    temporal_attention_block_skip_range: PositiveInt | None = None
    cross_attention_block_skip_range: PositiveInt | None = None
    spatial_attention_timestep_skip_range: Range | None = None
    temporal_attention_timestep_skip_range: Range | None = None
    cross_attention_timestep_skip_range: Range | None = None
    spatial_attention_block_identifiers: Patterns | None = None
    temporal_attention_block_identifiers: Patterns | None = None
    cross_attention_block_identifiers: Patterns | None = None


class Faster(Settings):
    kind: Literal["faster"]
    spatial_attention_block_skip_range: PositiveInt | None = None
    temporal_attention_block_skip_range: PositiveInt | None = None
    spatial_attention_timestep_skip_range: Range | None = None
    temporal_attention_timestep_skip_range: Range | None = None
    low_frequency_weight_update_timestep_range: Range | None = None
    high_frequency_weight_update_timestep_range: Range | None = None
    alpha_low_frequency: float | None = None
    alpha_high_frequency: float | None = None
    unconditional_batch_skip_range: PositiveInt | None = None
    unconditional_batch_timestep_skip_range: Range | None = None
    spatial_attention_block_identifiers: Patterns | None = None
    temporal_attention_block_identifiers: Patterns | None = None
    tensor_format: Literal["BCFHW", "BFCHW", "BCHW"] | None = None


Cache: TypeAlias = FirstBlock | TaylorSeer | Mag | Sea | PyramidAttention | Faster


class Scheduler(Settings):
    """Another solver of the same flow, another time schedule, or both.

    order   of UniPC; 2 where not given
    shift   s x / (1 + (s - 1) x) over the noise levels x that the pipeline would have
    sigmas  the noise levels themselves, one a step; the last step ends at 0
    """

    kind: Literal["own", "euler", "heun", "dpmpp-2m", "unipc"] = "own"
    order: Literal[1, 2, 3] | None = None
    shift: PositiveFloat | None = None
    sigmas: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Scheduler:
        if self.order and self.kind != "unipc":
            raise DditError(f"order: {self.order} is UniPC's; leave it out, or write kind: unipc")
        if self.shift and self.sigmas:
            raise DditError("give either `shift` or `sigmas`; a list of sigmas is taken as it is")
        if rise := [(a, b) for a, b in pairwise(self.sigmas or ()) if b >= a]:
            raise DditError(f"sigmas: {rise[0][1]} comes after {rise[0][0]}; noise levels have to fall")
        if self == Scheduler.model_construct():
            raise DditError("kind: own alone changes nothing; give `shift` or `sigmas`, or leave it out")
        return self

    def calls(self, steps: int) -> int:
        """How often a run of `steps` evaluates the velocity: Heun's steps do twice, but the last."""
        return 2 * steps - 1 if self.kind == "heun" else steps


class Setup(Settings):
    """A function of one's own that makes a pipeline faster; `with` is handed to it after the pipeline."""

    call: str = Field(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[\w.-]+)$")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")


def _setup(value: Any) -> Any:
    return {"call": value} if isinstance(value, str) else value


CacheField = Annotated[Cache, Field(discriminator="kind")]
SetupField = Annotated[Setup, BeforeValidator(_setup)]


class Rival(Settings):
    """What a row runs with besides its policy and its steps."""

    cache: CacheField | None = None
    scheduler: Scheduler | None = None
    setup: SetupField | None = None

    @property
    def beside(self) -> dict[str, dict[str, Any]]:
        """The same as plain data, as records hold it: what is not given is not there."""
        fields = {"cache": self.cache, "scheduler": self.scheduler, "setup": self.setup}
        return {
            name: value.model_dump(mode="json", exclude_none=True, by_alias=True)
            for name, value in fields.items()
            if value is not None
        }

    def calls(self, steps: int) -> int:
        """Steps as the transformer sees them: evaluations of the velocity."""
        return self.scheduler.calls(steps) if self.scheduler else steps


def rival_of(sample: Any) -> Rival:
    """The same of a record or of what is to become one; None is not there."""
    return Rival.model_validate({name: getattr(sample, name) for name in Rival.model_fields})
