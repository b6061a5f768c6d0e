"""Loading a model as the plain diffusers pipeline that it is."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from diffusers import DiffusionPipeline

from ddit_eval.errors import DditError
from ddit_eval.models.find import locate, remedy
from ddit_eval.models.parts import load_parts
from ddit_eval.system.loading import loading
from ddit_eval.world.words import known_words, warn_unknown

WORLD_SIDE = 64  # pixels, of the models of the captioned world
PROMPTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")


def load_pipeline(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
) -> Any:
    """Load a model as the plain diffusers pipeline that it is.

    name_or_path: a registered name ("mini-flux"), a folder, or the hub id of weights downloaded before.
    device: CUDA where there is one, else the CPU. dtype: float32 on the CPU, bfloat16 elsewhere.
    Raises `DditError` for an unknown model and for weights that are not here; nothing is ever downloaded.
    """
    folder, mend = locate(name_or_path), remedy(name_or_path)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(dtype, torch.dtype):
        raise DditError("dtype is none of torch's: give float32, bfloat16 or float16")
    before = torch.get_default_dtype()
    try:
        parts = load_parts(folder, dtype, mend)
        with loading(folder, "a pipeline", mend):
            pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, **parts)
    finally:
        torch.set_default_dtype(before)  # diffusers leaves it changed where it fails
    pipe = pipe.to(device)
    if words := known_words(_text_tokenizer(pipe)):
        _fit_world(pipe, words)
    return pipe


def default_side(pipe: Any) -> int:
    """The side, in pixels, of the picture that the pipeline makes when asked for none."""
    return int(pipe.default_sample_size * pipe.vae_scale_factor)


def _text_tokenizer(pipe: Any) -> Any:
    """The tokenizer of the text that the transformer reads word by word."""
    return getattr(pipe, "tokenizer_2", None) or getattr(pipe, "tokenizer", None)


def _fit_world(pipe: Any, words: list[str]) -> None:
    """Make the defaults of this one pipeline those of a model of the captioned world.

    FluxPipeline assumes 1024 px and 512 text tokens; these models know 64 px and 32 tokens, and few words.
    """
    limit = _text_tokenizer(pipe).model_max_length
    plain = type(pipe).encode_prompt
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def encode_prompt(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        call.arguments["max_sequence_length"] = min(call.arguments["max_sequence_length"], limit)
        given = [call.arguments.get(name) or [] for name in PROMPTS]
        texts = [text for one in given for text in ([one] if isinstance(one, str) else one)]
        warn_unknown(texts, words)
        return plain(*call.args, **call.kwargs)

    pipe.encode_prompt = MethodType(encode_prompt, pipe)
    if hasattr(pipe, "default_sample_size"):  # WanPipeline has none: its calls name the size
        pipe.default_sample_size = WORLD_SIDE // pipe.vae_scale_factor
