"""Contrastive networks (CLIP) that open_clip loads from local files: loading, tokenizing, features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.weights import stamp_of, wrong_hash
from ddit_eval.system.loading import loading
from ddit_eval.system.read import read_json
from ddit_eval.system.tensors import no_larger, shapes

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
# In the order of open_clip's own preference.
_CHOICE = (WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_PREPARATION = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class ClipSource:
    """Where a CLIP comes from.

    `checkpoint`: a folder that holds open_clip_config.json and weights (what a model's repository on the
    hub holds), or a weights file. `architecture`, for a file only: open_clip's name of the architecture
    and, after a slash, of the training, as in "ViT-B-32/openai". The training says how pictures are
    prepared and which GELU the network was trained with; without it open_clip's defaults are used.
    `sha256`: of the weights file, checked where given; a folder's own training.json may give it as well.
    `resize_mode`, for a file only: open_clip's, in place of the training's.
    """

    checkpoint: Path
    architecture: str | None = None
    sha256: str | None = None
    resize_mode: str | None = None

    @property
    def name(self) -> str:
        """The architecture or the folder; of a hub's snapshot (its folder is a commit) the repository."""
        if self.architecture:
            return self.architecture
        folder = self.checkpoint.absolute()
        if folder.parent.name == "snapshots":
            return folder.parents[1].name.removeprefix("models--").replace("--", "/")
        return folder.name

    def weights(self) -> Path:
        """The weights file; in a folder, the first that open_clip itself would choose."""
        if not self.checkpoint.is_dir():
            return self.checkpoint
        found = (self.checkpoint / name for name in _CHOICE)
        return next((path for path in found if path.is_file()), self.checkpoint / WEIGHTS)


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: open_clip's network, its preparation of a picture and its tokenizer."""

    network: Any
    prepare: Callable[[Image.Image], Tensor] = field(repr=False)
    tokenize: Any = field(repr=False)


# Mathematics: features in, numbers out.


def cosines(pictures: Tensor, captions: Tensor) -> Tensor:
    """Cosine of each picture's features with those of its caption: (N, D), (N, D) to (N,), in float64."""
    if pictures.shape != captions.shape or pictures.ndim != 2:
        raise DditError(
            f"cosines pair pictures with captions, (N, D) each: {tuple(pictures.shape)} against "
            f"{tuple(captions.shape)}; encode one caption a picture"
        )
    one, other = (F.normalize(features.double(), dim=-1) for features in (pictures, captions))
    return (one * other).sum(1)


# Networks.


@torch.no_grad()
def picture_features(clip: Clip, pictures: Tensor, chunk: int = 64) -> Tensor:
    """Features of pictures, not normalised: float (N, 3, H, W) in [0, 1] to (N, D) on the CPU.

    Pictures go through 8 bits and the model's own preparation (its resizing and crop), as files would.
    """
    device = next(clip.network.parameters()).device
    parts = [
        clip.network.encode_image(torch.stack([clip.prepare(image_of(p)) for p in part]).to(device))
        .float()
        .cpu()
        for part in pictures.split(chunk)
    ]
    return torch.cat(parts)


@torch.no_grad()
def caption_features(clip: Clip, captions: Sequence[str], chunk: int = 256) -> Tensor:
    """Features of captions, not normalised: N texts to (N, D). Warns of texts longer than the context."""
    device = next(clip.network.parameters()).device
    texts = list(captions)
    if cut := _too_long(clip, texts):
        warnings.warn(
            f"{len(cut)} of {len(texts)} prompts are longer than this CLIP's "
            f"{clip.tokenize.context_length} tokens and were cut, the first is {cut[0][:80]!r}",
            stacklevel=2,
        )
    parts = [
        clip.network.encode_text(clip.tokenize(texts[i : i + chunk]).to(device)).float().cpu()
        for i in range(0, len(texts), chunk)
    ]
    return torch.cat(parts)


def image_of(picture: Tensor) -> Image.Image:
    """A picture (3, H, W) in [0, 1] as Pillow has it, in 8 bits."""
    # Rounded: torchvision's to_pil_image truncates.
    levels = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _too_long(clip: Clip, texts: list[str]) -> list[str]:
    """Texts that have a word where the context must already end. Tokens of an empty text are no words."""
    context = clip.tokenize.context_length
    marks = clip.tokenize([""], context_length=context + 1)
    at_end = clip.tokenize(texts, context_length=context + 1)[:, context - 1]
    return [text for text, word in zip(texts, ~torch.isin(at_end, marks), strict=True) if word]


def load_clip(source: ClipSource, device: str = "cpu") -> Clip:
    """The network in float32 and evaluation mode. Loads local files only, as data (never pickled code).

    Raises `DditError` where something is missing, does not match its hash or is no such network.
    """
    if why := missing(source):
        raise DditError(why)
    return _load(source, device, stamp_of(source.weights()))


@lru_cache(maxsize=2)
def _load(source: ClipSource, device: str, stamp: tuple[str, int, int]) -> Clip:
    import open_clip

    remedy = (
        "give safetensors (or a state dict that torch loads with weights_only=True) of the same architecture"
    )
    path = source.weights()
    held = shapes(path, remedy) if path.suffix == ".safetensors" else {}
    limit = no_larger(held.values(), str(path)) if held else nullcontext()
    with loading(path, source.name, remedy), limit:
        if source.checkpoint.is_dir():
            name = f"local-dir:{source.checkpoint}"
            network, prepare = open_clip.create_model_from_pretrained(name, device=device)
        else:
            name, training = _architecture(source)
            if source.resize_mode:
                training = {**training, "resize_mode": source.resize_mode}
            network, prepare = open_clip.create_model_from_pretrained(
                name,
                str(source.checkpoint),
                device=device,
                force_quick_gelu=training.get("quick_gelu", False),
                **{f"image_{key}": training[key] for key in _PREPARATION if key in training},
            )
        tokenize = open_clip.get_tokenizer(name)
        for name, value in network.state_dict().items():
            if name in held and value.numel() != prod(held[name]):  # open_clip interpolates positions
                raise ValueError(f"{name} is {held[name]}, not {tuple(value.shape)}")
    return Clip(network.eval().requires_grad_(False), prepare, tokenize)


def _architecture(source: ClipSource) -> tuple[str, dict[str, Any]]:
    """open_clip's name of the architecture and what its table says of the training ({} without one)."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    name, _, tag = (source.architecture or "").partition("/")
    if name not in open_clip.list_models():
        raise DditError(
            f"open_clip knows no architecture {name!r}; give one of open_clip.list_models(), with its "
            'training after a slash ("ViT-B-32/openai"), or a folder that holds open_clip_config.json'
        )
    training = get_pretrained_cfg(name, tag) if tag else {}
    if tag and not training:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise DditError(
            f"open_clip knows no training {tag!r} of {name}; there are {', '.join(tags) or 'none'}"
        )
    return name, training


def missing(source: ClipSource) -> str | None:
    """What this CLIP lacks here, in a sentence, or None. Looks only; nothing is downloaded."""
    folder, weights = source.checkpoint.is_dir(), source.weights()
    if not folder and source.architecture is None and source.checkpoint.is_file():
        return (
            f"clip: {source.checkpoint} is a weights file, and its architecture is not named; name it as "
            'open_clip does ("ViT-B-32/openai"), or give a folder that holds open_clip_config.json'
        )
    if folder and source.architecture is not None:
        return (
            f"clip: the folder {source.checkpoint} names its architecture itself; leave out "
            f"{source.architecture!r}, or give the weights file {weights}"
        )
    if folder and not (source.checkpoint / CONFIG).is_file():
        return (
            f"clip: the folder {source.checkpoint} has no {CONFIG}; put the model's beside its weights, or "
            "give the weights file and open_clip's name of the architecture"
        )
    if not weights.is_file():
        expected = source.sha256 or _recorded(source)
        hash_said = f" (SHA-256 {expected[:12]}...)" if expected else ""
        return (
            f"clip: the weights of {source.name} belong at {weights} and are not there; copy them from a "
            f"machine that has them{hash_said}, or measure `clip-world`, the small CLIP that ships"
        )
    try:
        config = _config(source)
    except DditError as error:
        return str(error)
    text = config.get("text_cfg", {})
    if "hf_model_name" in text or (not folder and "hf_tokenizer_name" in text):
        remedy = "choose a CLIP with a text tower of open_clip's own" if folder else "give the model's folder"
        return f"clip: {source.name} would fetch its text tower or tokenizer from the hub; {remedy}"
    return wrong_hash("clip", weights, source.sha256 or _recorded(source))


def _config(source: ClipSource) -> dict[str, Any]:
    if source.checkpoint.is_dir():
        config = read_json(source.checkpoint / CONFIG)
        model = config.get("model_cfg") if isinstance(config, dict) else None
        if not isinstance(model, dict):
            raise DditError(
                f"clip: {source.checkpoint / CONFIG} has no model_cfg; copy the model's own again"
            )
        return model
    from open_clip.factory import get_model_config

    return get_model_config(_architecture(source)[0]) or {}


def _recorded(source: ClipSource) -> str | None:
    """The hash that the training wrote beside the weights."""
    log = source.checkpoint / "training.json"
    if not (source.checkpoint.is_dir() and log.is_file()):
        return None
    value = read_json(log).get("sha256")
    return str(value) if value else None
