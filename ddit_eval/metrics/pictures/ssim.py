"""Structural similarity to the base model's picture (Wang et al. 2004)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import Column, Metric, paired

WINDOW = 11
MARGIN = 0.05  # one twentieth of the upper half of its range


def ssim(pictures: Tensor, reference: Tensor) -> Tensor:
    """SSIM with the Gaussian window of the paper (sigma 1.5, 11 x 11), per picture: (N,), float64, CPU.

    The definition is torchmetrics', with a window at every pixel of a picture that is reflected at its edges;
    scikit-image filters it one axis at a time. float32 would not do: of equal bright pictures it makes .9985.
    """
    from skimage.metrics import structural_similarity

    if min(pictures.shape[-2:]) < WINDOW:
        size = tuple(pictures.shape[-2:])
        raise DditError(f"SSIM has a window of {WINDOW} px; a picture of {size} is too small")
    edge = 4 * [WINDOW // 2]  # what scikit-image leaves out of its mean
    found = [
        structural_similarity(
            *(F.pad(side.cpu().double(), edge, mode="reflect").numpy() for side in pair),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for pair in zip(pictures, reference, strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64)


METRIC = Metric(
    "ssim",
    (Column("ssim", "higher", -1.0, 1.0, "SSIM to base", role="fidelity", rank=3, margin=MARGIN),),
    "reference",
    paired("ssim", ssim),
    source="scikit-image structural_similarity, Gaussian 11 x 11, sigma 1.5, data range 1, edges reflected; "
    "equal to torchmetrics' in float64",
)
