"""What fixes an adapter's shape, and the base that it was made for: its config.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ddit_eval.ddit.adapter.detail import DetailConfig, Kind
from ddit_eval.ddit.adapter.fingerprint import BaseFingerprint, fingerprint, is_quantised
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.families.family import plain
from ddit_eval.errors import DditError

Size = Annotated[int, Field(ge=1)]


class AdapterConfig(BaseModel):
    """Everything that fixes an adapter's shape, and the base that it was made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    family: str
    base: BaseFingerprint
    scales: Annotated[tuple[Annotated[int, Field(strict=True)], ...], Field(min_length=1)]
    rank: Annotated[int, Field(ge=0)] = 32
    detail: DetailConfig = DetailConfig()
    patch: Size
    channel_first: bool
    hidden: Size
    in_channels: Size  # values in a base token, conditioning included
    out_channels: Size
    layers: dict[str, tuple[int, int]]  # layer that has a LoRA to (inputs, outputs)
    time: dict[int, int] = {}  # scale to the frames that its patches span, where they span several

    @field_validator("scales")
    @classmethod
    def _coarse(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if min(scales) < 2 or len(set(scales)) != len(scales):
            raise ValueError(f"scales must be different integers above 1, got {scales}")
        return tuple(sorted(scales))

    @field_validator("time")
    @classmethod
    def _several(cls, time: dict[int, int]) -> dict[int, int]:
        if any(frames < 1 for frames in time.values()):
            raise ValueError(f"a patch spans one frame or more, got {time}")
        return {scale: frames for scale, frames in sorted(time.items()) if frames > 1}

    @model_validator(mode="after")
    def _known(self) -> AdapterConfig:
        if not set(self.time) <= set(self.scales):
            raise ValueError(f"time names the scales {list(self.time)}, there are {list(self.scales)}")
        if self.out_channels % self.patch**2:
            raise ValueError(f"{self.out_channels} output channels are no patches of side {self.patch}")
        return self

    @property
    def times(self) -> tuple[tuple[int, int], ...]:
        """(scale, frames of a patch) of all scales; empty where all patches are one frame deep."""
        return tuple((s, self.time.get(s, 1)) for s in self.scales) if self.time else ()


def config_for(
    transformer: Any,
    scales: Iterable[int] = (2, 4),
    rank: int = 32,
    detail: DetailConfig | Kind = "conv",
    attention: bool = False,
    time: Mapping[int, int] | None = None,
) -> AdapterConfig:
    """The configuration of `Adapter.from_base`; reads shapes alone, so that a transformer on the meta device
    will do."""
    family = family_of(transformer)
    if time and not family.video:
        raise DditError(f"time is {dict(time)}, but {family.name} makes pictures, which have one frame")
    kind = detail if isinstance(detail, str) else detail.kind
    if not family.flow and kind in ("analytic", "conv"):
        raise DditError(
            f"detail: {kind!r} is derived for rectified flows, but {family.name} predicts noise; "
            "choose 'zero' or 'none'"
        )
    for layer in (family.embedding_layer(transformer), family.head_layer(transformer)):
        if is_quantised(layer.weight):
            raise DditError(
                f"the base's embedding or head is quantised ({type(layer.weight).__name__}), and an adapter "
                "starts from their values: make it of the base in bfloat16, then attach it to this one"
            )
    embedding, head = family.embedding_of(transformer), family.head_of(transformer)
    layers = dict(family.feed_forwards(transformer))
    layers |= dict(family.attentions(transformer)) if attention else {}
    return parse_config(
        {
            "family": family.name,
            "base": fingerprint(transformer),
            "scales": tuple(scales),
            "rank": rank,
            "detail": DetailConfig(kind=detail) if isinstance(detail, str) else detail,
            "patch": family.patch,
            "channel_first": True,  # `Family` translates
            "hidden": len(embedding[0]),
            "in_channels": embedding[0].shape[1],
            "out_channels": len(head[0]),
            "layers": {n: (plain(m).in_features, plain(m).out_features) for n, m in layers.items()},
            "time": dict(time or {}),
        }
    )


def parse_config(data: dict[str, Any]) -> AdapterConfig:
    """A checked configuration. Raises DditError."""
    try:
        return AdapterConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DditError(
            f"adapter configuration, {where}: {first['msg']} (got {first['input']!r:.80})"
        ) from None
