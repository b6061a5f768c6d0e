"""ImageReward (Xu et al. 2023, arXiv 2304.05977), through its authors' package, from local weights only.

    export DDIT_IMAGE_REWARD=FOLDER          # ImageReward.pt and med_config.json

The package pins versions that do not install beside ours, so it is no extra of this one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.clip_network import image_of
from ddit_eval.metrics.pictures.rewards import lacking, offline, with_hash
from ddit_eval.metrics.weights import stamp_of
from ddit_eval.system.loading import loading

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "DDIT_IMAGE_REWARD"
MARGIN = 0.05  # one twentieth of the standard deviation to which it is scaled
WEIGHTS, CONFIG, TOKENIZER = "ImageReward.pt", "med_config.json", "bert-base-uncased"
_NEEDS = (
    "needs the package image-reward (`pip install image-reward` in an environment of its own: it pins timm "
    f"0.6.13), {WEIGHTS} (1.8 GB, no published hash) and {CONFIG} of THUDM/ImageReward "
    f"in the folder that {FOLDER} names, and {TOKENIZER} in the local Hugging Face cache "
    f"(`hf download {TOKENIZER}`)"
)


def chosen(environment: Mapping[str, str]) -> Metric:
    """The metric `image-reward` for this environment; without its parts it says what is missing."""
    folder = Path(named).expanduser() if (named := environment.get(FOLDER)) else None

    def measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
        assert folder is not None
        return {"image-reward": rewards(_load(folder, stamp_of(folder / WEIGHTS)), pictures, prompts)}

    return Metric(
        "image-reward",
        (Column("image-reward", "higher", None, None, role="score", margin=MARGIN),),
        "prompts",
        measure,
        source="Xu et al. 2023 (arXiv 2304.05977), image-reward package, standardised reward",
        network=with_hash("BLIP ViT-L, ImageReward v1.0", folder and folder / WEIGHTS),
        weights=f"{WEIGHTS} (1.8 GB, no published hash), {CONFIG}, {TOKENIZER}",
        missing=lambda: missing(folder),
    )


def missing(folder: Path | None) -> str | None:
    """What ImageReward lacks here, or None. Looks only."""
    from huggingface_hub import try_to_load_from_cache

    absent = [] if find_spec("ImageReward") else ["the package"]
    if folder is None:
        absent.append(f"the variable {FOLDER}")
    else:
        absent += [str(folder / file) for file in (WEIGHTS, CONFIG) if not (folder / file).is_file()]
    if not isinstance(try_to_load_from_cache(TOKENIZER, "vocab.txt"), str):
        absent.append(TOKENIZER)
    return lacking("image-reward", _NEEDS, absent, "measure `clip-world` or `adherence`, which ship")


def rewards(model: Any, pictures: Tensor, prompts: Sequence[str]) -> list[float]:
    """The model's reward of each picture (N, 3, H, W) in [0, 1] for its prompt."""
    values = []
    # All versions of the package score files; only some score pictures in memory.
    with TemporaryDirectory() as place:
        path = Path(place) / "picture.png"
        for picture, prompt in zip(pictures, prompts, strict=True):
            image_of(picture).save(path)
            values.append(float(model.score(prompt, str(path))))
    return values


@lru_cache(maxsize=1)
def _load(folder: Path, stamp: tuple[str, int, int]) -> Any:
    """The package's model with our reading of the weights: its own `load` would ask the hub."""
    remedy = "copy it again, or use the versions that the package pins"
    with loading(folder / WEIGHTS, "ImageReward", remedy):
        from ImageReward.ImageReward import ImageReward

        with offline():
            model = ImageReward(med_config=str(folder / CONFIG), device="cpu")
        state = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        absent = model.load_state_dict(state, strict=False).missing_keys
        if absent := [key for key in absent if not key.endswith("position_ids")]:
            raise ValueError(f"{len(absent)} weights are absent, the first is {absent[0]}")
    return model.eval().requires_grad_(False)


METRIC = chosen(os.environ)
