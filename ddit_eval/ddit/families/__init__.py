"""Model families: where a transformer's embedding, positions, head and feed-forwards are."""

from __future__ import annotations

from torch import nn

from ddit_eval.ddit.families.family import Call, ModelFamily
from ddit_eval.ddit.families.flux import Flux, Flux2
from ddit_eval.ddit.families.hunyuan import HunyuanVideo, HunyuanVideo15
from ddit_eval.ddit.families.ltx import Ltx
from ddit_eval.ddit.families.qwen import QwenImage
from ddit_eval.ddit.families.tables import DiT, PixArt, StableDiffusion3
from ddit_eval.ddit.families.wan import Wan
from ddit_eval.errors import DditError
from ddit_eval.system.plugins import plugins

__all__ = ["FAMILIES", "Call", "ModelFamily", "families", "family_named", "family_of"]

FAMILIES: dict[str, ModelFamily] = {  # those that ship
    family.name: family
    for family in (
        Flux(),
        Flux2(),
        QwenImage(),
        StableDiffusion3(),
        PixArt(),
        DiT(),
        Wan(),
        HunyuanVideo(),
        HunyuanVideo15(),
        Ltx(),
    )
}

# Why some well-known transformers cannot be attached to.
UNSUPPORTED = {
    "CogVideoXTransformer3DModel": "its pipeline computes the rotary positions outside of the transformer",
    "ZImageTransformer2DModel": "it takes its samples as a list, and its positions are whole numbers",
    "SanaTransformer2DModel": "its feed-forward is a convolution over the grid, which a mixed sequence lacks",
}


def families() -> list[ModelFamily]:
    """Every family: those that ship, and what installed packages add."""
    needed = tuple(name for name in (*ModelFamily.__annotations__, *vars(ModelFamily)) if name[0] != "_")
    return [*FAMILIES.values(), *plugins("ddit_eval.families", needed, tuple(FAMILIES)).values()]


def family_named(class_name: str) -> ModelFamily:
    """The family of a transformer's class. Raises DditError for an unknown one."""
    for family in families():
        if family.class_name == class_name:
            return family
    raise _unknown(class_name)


def family_of(transformer: nn.Module) -> ModelFamily:
    """The family that `transformer` belongs to. Raises DditError for an unknown one."""
    for family in families():
        if family.owns(transformer):
            return family
    names = [cls.__name__ for cls in type(transformer).__mro__]
    raise _unknown(next((name for name in names if name in UNSUPPORTED), names[0]))


def _unknown(class_name: str) -> DditError:
    if class_name in UNSUPPORTED:
        return DditError(f"{class_name} cannot have coarse patches: {UNSUPPORTED[class_name]}")
    return DditError(
        f"{class_name} belongs to no known family; known: "
        + ", ".join(f"{f.name} ({f.class_name})" for f in families())
    )
