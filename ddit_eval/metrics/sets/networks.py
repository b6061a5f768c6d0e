"""The feature networks by name: Inception, DINOv2, CLIP, the world's reader.

Add yours with `register("mine", lambda: Network(...))`.
"""

from __future__ import annotations

from collections.abc import Callable

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.dinov2 import dinov2_network
from ddit_eval.metrics.sets.feature_network import Network
from ddit_eval.metrics.sets.inception import inception_network
from ddit_eval.metrics.sets.openclip import chosen_clip_network, clip_world_network
from ddit_eval.metrics.sets.reader import reader_network

_FACTORIES: dict[str, Callable[[], Network]] = {
    "inception": inception_network,
    "dinov2": dinov2_network,
    "clip": chosen_clip_network,
    "clip-world": clip_world_network,
    "reader": reader_network,
}


def names() -> list[str]:
    """Names that `network` knows."""
    return list(_FACTORIES)


def network(name: str) -> Network:
    """The network of that name; no weights are loaded before its first features."""
    if name not in _FACTORIES:
        raise DditError(f"unknown feature network {name!r}; there are {', '.join(sorted(_FACTORIES))}")
    return _FACTORIES[name]()


def register(name: str, factory: Callable[[], Network]) -> None:
    """Add a network: `factory()` gives it, and is called when it is asked for."""
    if name in _FACTORIES:
        raise DditError(f"there is a feature network {name!r} already; choose another name")
    _FACTORIES[name] = factory
