"""Model families: where a transformer's embedding, positions, head and feed-forwards are."""

from __future__ import annotations

from torch import nn

from ddit_eval.errors import DditError
from ddit_eval.families.family import Call, Family
from ddit_eval.families.flux import Flux
from ddit_eval.families.hunyuan import HunyuanVideo, HunyuanVideo15
from ddit_eval.families.wan import Wan

__all__ = ["FAMILIES", "Call", "Family", "family_named", "family_of"]

FAMILIES: dict[str, Family] = {
    family.name: family for family in (Flux(), Wan(), HunyuanVideo(), HunyuanVideo15())
}


def family_named(class_name: str) -> Family:
    """The family of a transformer's class. Raises DditError for an unknown one."""
    for family in FAMILIES.values():
        if family.class_name == class_name:
            return family
    raise _unknown(class_name)


def family_of(transformer: nn.Module) -> Family:
    """The family that `transformer` belongs to. Raises DditError for an unknown one."""
    for family in FAMILIES.values():
        if family.owns(transformer):
            return family
    raise _unknown(type(transformer).__name__)


def _unknown(class_name: str) -> DditError:
    return DditError(
        f"{class_name} belongs to no known family; known: "
        + ", ".join(f"{f.name} ({f.class_name})" for f in FAMILIES.values())
    )
