"""Human Preference Score v2 (Wu et al. 2023, arXiv 2306.09341) from a local checkpoint.

    export DDIT_HPSV2=HPS_v2.1_compressed.pt

The score is the cosine of a CLIP ViT-H/14 that was tuned on preferences, so open_clip loads it; the authors'
package would download the base network first, and its pins do not install beside ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.clip_network import ClipSource, load_clip
from ddit_eval.metrics.pictures.clip_score import clip_score
from ddit_eval.metrics.pictures.rewards import lacking, with_hash

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT = "DDIT_HPSV2"
ARCHITECTURE = "ViT-H-14/laion2b_s32b_b79k"
WEIGHTS = "HPS_v2.1_compressed.pt or HPS_v2_compressed.pt (2 GB, no published hash)"
_NEEDS = (
    f"needs {WEIGHTS} (`hf download xswu/HPSv2`) at the path that {CHECKPOINT} names; open_clip loads it, no "
    "package is needed"
)


def chosen(environment: Mapping[str, str], architecture: str = ARCHITECTURE) -> Metric:
    """The metric `hpsv2` for this environment; without a checkpoint it says what is missing."""
    path = Path(named).expanduser() if (named := environment.get(CHECKPOINT)) else None

    def missing() -> str | None:
        absent = [f"the variable {CHECKPOINT}"] if path is None else [] if path.is_file() else [str(path)]
        return lacking("hpsv2", _NEEDS, absent, "measure `clip-world` or `adherence`, which ship")

    def measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
        assert path is not None
        # The longer side is fitted and the rest padded, as the authors do.
        source = ClipSource(path, architecture, resize_mode="longest")
        return {"hpsv2": (clip_score(load_clip(source), pictures, prompts) / 100).tolist()}

    return Metric(
        "hpsv2",
        (Column("hpsv2", "higher", -1.0, 1.0),),
        "prompts",
        measure,
        source="Wu et al. 2023 (arXiv 2306.09341): raw cosine, float32, through open_clip",
        network=with_hash(f"CLIP ViT-H/14, {path.name if path else 'HPS v2'}", path),
        note="v2.0 and v2.1 are different networks: compare figures of one checkpoint only",
        weights=WEIGHTS,
        missing=missing,
    )


METRIC = chosen(os.environ)
