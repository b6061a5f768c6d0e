"""CLIP's picture tower, the network of CMMD, through open_clip and `pictures.clip_network`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import unavailable
from ddit_eval.metrics.pictures import clip_network as clip
from ddit_eval.metrics.pictures.clip_network import ClipSource
from ddit_eval.metrics.pictures.clip_score import ARCHITECTURE, CHECKPOINT
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.weights import ABSENT, SHIPPED, hash_of, shipped
from ddit_eval.system.read import read_json

PUBLISHED_CLIP = ("ViT-L-14-336/openai", "ViT-L-14-336-quickgelu/openai")


def clip_network(
    checkpoint: str | Path, architecture: str | None = None, sha256: str | None = None
) -> Network:
    """The picture tower of a CLIP that open_clip loads from local files; see `clip_network.ClipSource`.

    OpenAI's ViT-L/14 at 336 px, which CMMD is defined on, is called "clip": a weights file named
    "ViT-L-14-336/openai". Any other network is "clip-" and its own name.
    """
    return _clip(ClipSource(Path(checkpoint).expanduser(), architecture, sha256))


def _clip(source: ClipSource) -> Network:
    published = source.architecture in PUBLISHED_CLIP
    weights = source.weights()

    def extract(pictures: Tensor) -> Tensor:
        return clip.picture_features(clip.load_clip(source, str(pictures.device)), pictures)

    return Network(
        "clip" if published else f"clip-{_slug(source.name)}",
        _clip_dimension(source),
        f"{source.name} (open_clip), picture features; 8 bits; the network's own resizing, crop and "
        f"normalisation; {hash_of(weights)}",
        extract,
        lambda: clip.missing(source),
        frozenset({"cmmd"}) if published else frozenset(),
        shipped(weights) if SHIPPED in weights.parents else f"{weights.name} ({hash_of(weights)})",
    )


def _clip_dimension(source: ClipSource) -> int:
    """The size of the features, from the configuration; 0 where that is missing, as `missing` will say."""
    try:
        if source.checkpoint.is_dir():
            return int(read_json(source.checkpoint / "open_clip_config.json")["model_cfg"]["embed_dim"])
        from open_clip.factory import get_model_config

        name = (source.architecture or "").partition("/")[0]
        return int((get_model_config(name) or {}).get("embed_dim", 0))
    except (DditError, KeyError, TypeError, ValueError):
        return 0


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in name.lower())


def chosen_clip_network(environment: Mapping[str, str] = os.environ) -> Network:
    """The CLIP that the environment names, as for the metric `clip`; without one it says what to set."""
    if checkpoint := environment.get(CHECKPOINT):
        return clip_network(checkpoint, environment.get(ARCHITECTURE) or None)
    why = (
        f"clip: no network is named; set {CHECKPOINT} to the weights of OpenAI's ViT-L/14 at 336 px "
        f"(open_clip, 1.6 GiB, no published hash) and {ARCHITECTURE} to {PUBLISHED_CLIP[0]}, or measure with "
        "the network `reader`, the shipped stand-in"
    )

    return Network(
        "clip",
        768,
        f"{PUBLISHED_CLIP[0]} (open_clip); {ABSENT}",
        unavailable(why),
        lambda: why,
        frozenset({"cmmd"}),
        f"what {CHECKPOINT} names ({PUBLISHED_CLIP[0]}: 1.6 GiB, no published hash)",
    )


def clip_world_network() -> Network:
    """The small CLIP of the captioned world that ships, called "clip-world"."""
    return replace(_clip(ClipSource(SHIPPED / "clip")), name="clip-world")
