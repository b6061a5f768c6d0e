"""Loading a model as the plain diffusers pipeline that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.models.find import locate
from ddit_eval.models.names import known


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
    from ddit_eval.world.tokenizer import as_world, is_world

    for name in ("tokenizer", "tokenizer_2"):
        if is_world(getattr(pipe, name, None)):
            # Not through the pipeline's own __setattr__: it would write our class into model_index.json.
            object.__setattr__(pipe, name, as_world(getattr(pipe, name)))
            if hasattr(pipe, "default_sample_size"):  # WanPipeline has none: its calls name the size
                pipe.default_sample_size = 64 // pipe.vae_scale_factor


def default_side(pipe: Any) -> int:
    """The side, in pixels, of the picture that the pipeline makes when asked for none."""
    return int(pipe.default_sample_size * pipe.vae_scale_factor)
