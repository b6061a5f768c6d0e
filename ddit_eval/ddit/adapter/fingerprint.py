"""Which base an adapter belongs to: its configuration and a few of its weights, as hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ddit_eval.ddit.families import family_of


class BaseFingerprint(BaseModel):
    """`weights` is None where the weights cannot be read (quantised, or offloaded to the meta device)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    config: str
    weights: str | None

    def difference(self, other: BaseFingerprint) -> str | None:
        """In which respect two bases differ; None if they are the same as far as can be seen."""
        if self.config != other.config:
            return f"its configuration differs (hash {other.config}, the adapter expects {self.config})"
        if self.weights and other.weights and self.weights != other.weights:
            return f"its weights differ (hash {other.weights}, the adapter expects {self.weights})"
        return None


def fingerprint(transformer: Any) -> BaseFingerprint:
    """The fingerprint of a base transformer, the same in float32 and bfloat16 and under a loaded LoRA."""
    family = family_of(transformer)
    # Keys with an underscore are diffusers' bookkeeping; some appear only once a model was saved.
    config = {
        key: value
        for key, value in dict(transformer.config).items()
        if not key.startswith("_") and key != "quantization_config"
    }
    layers = (family.embedding_layer(transformer), family.head_layer(transformer))
    tensors = [t for layer in layers for t in _weights(layer)]
    # Eight bits have lost what the hash is of.
    readable = all(not is_quantised(t) and t.itemsize > 1 and not t.is_meta for t in tensors)
    return BaseFingerprint(
        config=hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16],
        weights=hash_tensors(tensors) if readable else None,
    )


def is_quantised(weight: Tensor) -> bool:
    """Whether a library has packed the weight: into whole numbers, or in a class of its own."""
    return not weight.is_floating_point() or type(weight) not in (Tensor, nn.Parameter)


def hash_tensors(tensors: list[Tensor]) -> str:
    """Hash of the values in bfloat16, so that the dtype at hand does not matter."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(t.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _weights(module: nn.Module) -> list[Tensor]:
    return [p for _, p in sorted(module.named_parameters(recurse=False))]
