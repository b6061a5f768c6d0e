"""DINOv2, from a folder or the local Hugging Face cache, through transformers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddit_eval.metrics.sets.feature_network import Network, to_bytes
from ddit_eval.metrics.weights import hash_of, stamp_of, wrong_hash
from ddit_eval.system.networks import load_networks
from ddit_eval.system.read import read_json

DINOV2 = "facebook/dinov2-large"  # ViT-L/14, as in Stein et al. 2023 (arXiv 2306.04675)


def dinov2_network(checkpoint: str | Path = DINOV2, sha256: str | None = None) -> Network:
    """DINOv2's class token, through transformers, from a folder or the local Hugging Face cache.

    The default is called "dinov2"; any other bears the name of its folder. `sha256`: checked where given.
    """
    config, weights = (_dinov2_file(checkpoint, f) for f in ("config.json", "model.safetensors"))
    name = "dinov2" if str(checkpoint) == DINOV2 else Path(checkpoint).name.lower()
    name = name if name.startswith("dinov2") else f"dinov2-{name}"
    dimension = int(read_json(config)["hidden_size"]) if config else 1024

    size = " (1.1 GiB, no published hash)" if str(checkpoint) == DINOV2 else ""
    needed = f"config.json and model.safetensors{size} of {Path(checkpoint).name}"

    def missing() -> str | None:
        if config is None or weights is None:
            return (
                f"{name}: config.json and model.safetensors{size} of {checkpoint} are neither in a folder of "
                f"that name nor in the local Hugging Face cache; `hf download {checkpoint}` puts them there, "
                "or measure with the network `reader`, the shipped stand-in"
            )
        return wrong_hash(name, weights, sha256)

    def extract(pictures: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import InterpolationMode, normalize, resize

        assert weights is not None
        levels = resize(to_bytes(pictures), [224, 224], InterpolationMode.BICUBIC, antialias=True)
        x = normalize(levels.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        found = (
            _dinov2(weights.parent, stamp_of(weights)).to(pictures.device)(pixel_values=x).last_hidden_state
        )
        assert isinstance(found, Tensor)
        return found[:, 0]

    return Network(
        name,
        dimension,
        f"{Path(checkpoint).name} (transformers), class token; 8 bits; bicubic to 224 x 224, antialias, no "
        f"crop; ImageNet mean and deviation; {hash_of(weights)}",
        extract,
        missing,
        weights=needed,
    )


def _dinov2_file(checkpoint: str | Path, file: str) -> Path | None:
    # The published name is the published network, even where a folder is called so.
    if str(checkpoint) != DINOV2 and (path := Path(checkpoint) / file).is_file():
        return path
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(str(checkpoint), file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


@lru_cache(maxsize=1)
def _dinov2(folder: Path, stamp: tuple[str, int, int]) -> Any:
    from transformers import Dinov2Model

    return load_networks({folder: Dinov2Model}, torch.float32)[folder].requires_grad_(False)
