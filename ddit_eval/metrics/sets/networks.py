"""Networks whose features sets of pictures are compared in: Inception, DINOv2, CLIP, the world's reader.

A network is plain data with a function from pictures to features. Nothing is downloaded: one whose
weights are not here says so in `missing()`. Add yours with `register("mine", lambda: Network(...))`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import check_pictures


@dataclass(frozen=True)
class Network:
    """Pictures to features.

    `extract`: float (N, 3, H, W) of whole levels / 255 to (N, dimension), on the pictures' device, each
    picture for itself; call it through `features`. `preset`: all that decides the numbers: resizing,
    antialiasing, normalisation, layer, the weights' hash. `missing()`: None, or what is missing and where
    it belongs. `weights`: the files that it needs, with size and hash. `plain`: the published metrics
    ("fid", "kid", "cmmd") that are defined on this very network; every other metric bears the network's name.
    """

    name: str
    dimension: int
    preset: str
    extract: Callable[[Tensor], Tensor] = field(repr=False)
    missing: Callable[[], str | None] = field(repr=False, default=lambda: None)
    plain: frozenset[str] = frozenset()
    weights: str | None = None


@torch.no_grad()
def features(network: Network, pictures: Tensor, *, device: str = "cpu", chunk: int = 32) -> Tensor:
    """Features of pictures: float (N, 3, H, W) in [0, 1] to float32 (N, D) on the CPU.

    Pictures are rounded to 8 bits first, so that a picture and its PNG file have the same features.
    """
    if why := network.missing():
        raise DditError(why)
    check_pictures(pictures, "pictures")
    parts = []
    for part in pictures.split(chunk):
        found = network.extract(to_bytes(part).to(device).float() / 255).float().cpu()
        if found.shape != (len(part), network.dimension):
            raise DditError(
                f"the network {network.name} gave features {tuple(found.shape)} for {len(part)} pictures; "
                f"({len(part)}, {network.dimension}) is what it is registered with"
            )
        parts.append(found)
    out = torch.cat(parts)
    if not bool(out.isfinite().all()):
        raise DditError(f"the network {network.name} gave nan or infinite features: its weights are damaged")
    return out


def to_bytes(pictures: Tensor) -> Tensor:
    """Levels 0 to 255, rounded: truncation would darken every picture by half a level."""
    return (pictures.float().clamp(0, 1) * 255).round().to(torch.uint8)


def _shipped(module: str, function: str) -> Callable[[], Network]:
    """A factory of this package, imported when it is called."""

    def factory() -> Network:
        made = getattr(import_module(f"ddit_eval.metrics.sets.{module}"), function)()
        assert isinstance(made, Network)
        return made

    return factory


_FACTORIES: dict[str, Callable[[], Network]] = {
    "inception": _shipped("inception", "inception_network"),
    "dinov2": _shipped("dinov2", "dinov2_network"),
    "clip": _shipped("openclip", "chosen_clip_network"),
    "clip-world": _shipped("openclip", "clip_world_network"),
    "reader": _shipped("reader", "reader_network"),
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
