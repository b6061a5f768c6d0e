"""Which models there are, where their weights lie, how to load one and how to call it."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError

_WHOLE_FILE = 64 * 2**20  # bytes; of a larger file only both ends are hashed


@dataclass(frozen=True)
class Model:
    """A model that the package knows by name. `hub` is None where it ships with us.

    side    pixels, of a square picture; the height, where there is a `width`
    frames  of a clip; 1 for a picture
    fps     frames a second that a clip is played at
    """

    name: str
    what: str
    side: int
    text_tokens: int
    hub: str | None = None
    width: int | None = None
    frames: int = 1
    fps: int = 0

    @property
    def get(self) -> str:
        """How to get the weights, in one line."""
        if self.hub is None:
            return "ships with ddit_eval (reinstall it), or see experiments/train for how it was trained"
        return f"accept its licence on the hub, then: hf auth login && hf download {self.hub}"


MODELS = {
    model.name: model
    for model in (
        Model("mini-flux", "10 M parameter FLUX of the captioned world", 64, 32),
        Model("mini-wan", "8 M parameter Wan of the same world in motion", 64, 32, frames=9, fps=8),
        Model("FLUX.1-dev", "12 B, guidance-distilled", 1024, 512, "black-forest-labs/FLUX.1-dev"),
        Model("FLUX.1-schnell", "12 B, 1 to 4 steps", 1024, 256, "black-forest-labs/FLUX.1-schnell"),
        *(
            Model(name, what, side, 512, f"Wan-AI/{name}-Diffusers", width, 81, 16)
            for name, what, side, width in (
                ("Wan2.1-T2V-1.3B", "1.3 B, text to video", 480, 832),
                ("Wan2.1-T2V-14B", "14 B, text to video", 480, 832),
                ("Wan2.2-T2V-A14B", "2 x 14 B, two transformers", 480, 832),
            )
        ),
        Model(
            "HunyuanVideo",
            "13 B, guidance-distilled",
            544,
            256,
            "hunyuanvideo-community/HunyuanVideo",
            960,
            61,
            24,
        ),
        *(
            Model(name, what, side, words, hub)
            for name, what, side, words, hub in (
                ("FLUX.2-dev", "32 B, guidance-distilled", 1024, 512, "black-forest-labs/FLUX.2-dev"),
                ("Qwen-Image", "20 B", 1328, 512, "Qwen/Qwen-Image"),
                ("SD3.5-medium", "2.5 B", 1024, 256, "stabilityai/stable-diffusion-3.5-medium"),
                ("SD3.5-large", "8 B", 1024, 256, "stabilityai/stable-diffusion-3.5-large"),
                ("PixArt-alpha", "0.6 B, predicts noise", 1024, 120, "PixArt-alpha/PixArt-XL-2-1024-MS"),
                ("DiT-XL-2", "0.7 B, ImageNet classes, predicts noise", 256, 0, "facebook/DiT-XL-2-256"),
            )
        ),
        Model("LTX-Video", "2 B, text to video", 512, 128, "Lightricks/LTX-Video", 704, 161, 25),
        # Its text tokens: 1,000 of the prompt, 256 of glyphs, 729 of a picture.
        Model(
            "HunyuanVideo-1.5",
            "8.3 B, text to video",
            480,
            1985,
            "hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v",
            832,
            61,
            24,
        ),
    )
}


def known(name: str) -> Model | None:
    """The registered model of that name or hub id, in any case; None for folders and other hub ids."""
    for model in MODELS.values():
        if name.casefold() in (model.name.casefold(), (model.hub or model.name).casefold()):
            return model
    return None


def find(name_or_path: str | Path) -> Path | None:
    """The folder that holds a model's weights on this machine, or None. Never goes to the network."""
    path, model = Path(name_or_path), known(str(name_or_path))
    if path.is_dir() and model is None:
        return path
    if model and model.hub is None:
        folder = Path(str(resources.files("ddit_eval"))) / "weights" / model.name
    else:
        cached = _cached(model.hub if model and model.hub else str(name_or_path))
        if cached is None:
            return None
        folder = cached
    return folder if (folder / "model_index.json").is_file() else None


def _cached(repo: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def locate(name_or_path: str | Path) -> Path:
    """The folder that holds a model's weights; raises `DditError` saying how to get what is missing."""
    folder = find(name_or_path)
    if folder is not None and (folder / "model_index.json").is_file():
        return folder
    name = str(name_or_path)
    model = known(name)
    if folder is not None:
        raise DditError(f"{name} is no diffusers pipeline: it has no model_index.json")
    if model:
        raise DditError(f"the weights of {model.name} are not on this machine. To get them: {model.get}")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise DditError(
            f"{name} is neither a folder nor in the local Hugging Face cache. "
            f"To get it from the hub: hf download {name}"
        )
    raise DditError(
        f"unknown model {name!r}; known are {', '.join(MODELS)}, any folder of a pipeline, or a hub id"
    )


def load_pipeline(name_or_path: str | Path, device: Any = None, dtype: Any = None) -> Any:
    """Load a model as the plain diffusers pipeline that it is.

    name_or_path: a registered name ("mini-flux"), a folder, or the hub id of weights downloaded before.
    device: CUDA where there is one, else the CPU. dtype: float32 on the CPU, bfloat16 elsewhere.
    Raises `DditError` for an unknown model and for weights that are not here; nothing is ever downloaded.
    """
    import torch
    from diffusers import DiffusionPipeline

    folder = locate(name_or_path)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        repo = known(str(name_or_path))
        remedy = repo.get if repo else "copy the whole folder again"
        raise DditError(f"{name_or_path} is incomplete or broken ({error}). To mend it: {remedy}") from error
    pipe = pipe.to(device)
    _fit_world(pipe)
    return pipe


def _fit_world(pipe: Any) -> None:
    """Make the pipeline's defaults those of a model of the captioned world, if it is one.

    FluxPipeline assumes 1024 px and 512 text tokens; these models know 64 px and 32 tokens.
    """
    from ddit_eval.mini.tokenizer import as_world, is_world

    for name in ("tokenizer", "tokenizer_2"):
        if is_world(getattr(pipe, name, None)):
            # Not through the pipeline's own __setattr__: it would write our class into model_index.json.
            object.__setattr__(pipe, name, as_world(getattr(pipe, name)))
            if hasattr(pipe, "default_sample_size"):  # WanPipeline has none: its calls name the size
                pipe.default_sample_size = 64 // pipe.vae_scale_factor


def set_guidance(pipe: Any, scale: float) -> None:
    """Give the guidance scale to a pipeline whose call does not take it: HunyuanVideo 1.5 has a guider.

    Other pipelines are left as they are.
    """
    if getattr(pipe, "guider", None) is not None:
        pipe.guider = pipe.guider.new(guidance_scale=scale)


def accepted(pipe: Any) -> set[str]:
    """Names of what the pipeline's call takes."""
    return set(inspect.signature(pipe.__call__).parameters)


def call_arguments(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: Sequence[int],
    steps: int,
    text_tokens: int,
    guidance_scale: float,
    **more: Any,
) -> dict[str, Any]:
    """The pipeline call that makes a sample of each prompt from its seed, less what that call does not take.

    size: height and width in pixels, of a clip the number of frames, too.
    """
    import torch

    wanted: dict[str, Any] = {
        "prompt": list(prompts),
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        "height": size[0],
        "width": size[1],
        "num_frames": size[2] if len(size) > 2 else 1,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "max_sequence_length": text_tokens,
    }
    taken = accepted(pipe)
    return {name: value for name, value in (wanted | more).items() if name in taken}


def default_side(pipe: Any) -> int:
    """The side, in pixels, of the picture that the pipeline makes when asked for none."""
    return int(pipe.default_sample_size * pipe.vae_scale_factor)


def text_tokens(name_or_path: str | Path) -> int:
    """How many tokens of text a model was made for; its last tokenizer's limit if not registered."""
    if model := known(str(name_or_path)):
        return model.text_tokens
    folder = locate(name_or_path)
    for name in ("tokenizer_2", "tokenizer"):
        file = folder / name / "tokenizer_config.json"
        if file.is_file():
            return min(int(json.loads(file.read_text()).get("model_max_length", 512)), 512)
    return 512


def fingerprint(folder: Path) -> str:
    """12 hex digits of a folder's configuration and weights: other weights, other records."""
    if not folder.is_dir():
        raise DditError(
            f"there is no folder {folder}; give the folder, or a name that `ddit-eval models` lists"
        )
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".safetensors") or not path.is_file():
            continue
        if path.name == "calibration.json":  # no part of the weights; its policy has a digest of its own
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}:".encode())
        with open(path, "rb") as file:
            if size <= _WHOLE_FILE:
                digest.update(file.read())
            else:
                digest.update(file.read(2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:12]
