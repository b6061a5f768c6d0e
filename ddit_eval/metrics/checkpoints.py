"""Weights that are looked for on this machine, and never downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ddit_eval.errors import DditError
from ddit_eval.metrics.weights import wrong_hash
from ddit_eval.system.loading import loading
from ddit_eval.system.read import file_digest
from ddit_eval.system.tensors import read

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """A file of weights in torch hub's checkpoint folder.

    `sha256`: the first digits of its hash, or None where its authors publish none (then the figures name
    the hash that was found). `instead`: what can be measured without it.
    """

    file: str
    size: str
    origin: str
    sha256: str | None
    instead: str

    def __str__(self) -> str:
        known = f"SHA-256 {self.sha256}..." if self.sha256 else "no published hash"
        return f"{self.file} ({self.size}, {self.origin}, {known})"

    def path(self) -> Path:
        place = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        # A copy as safetensors serves as well, where no hash of the published file has to hold.
        twin = place.with_suffix(".safetensors")
        return twin if self.sha256 is None and twin.is_file() and not place.is_file() else place

    def missing(self, metric: str) -> str | None:
        """Why `metric` cannot use these weights here, or None."""
        path = self.path()
        if not path.is_file():
            return f"{metric}: {self} belongs at {path} and is not there; put it there, or {self.instead}"
        return wrong_hash(metric, path, self.sha256)

    def found(self) -> str | None:
        """SHA-256 of the file that is there, or None."""
        return file_digest(self.path()) if self.path().is_file() else None

    def load(self) -> dict[str, Tensor]:
        """The tensors by name, read as data (never pickled code)."""
        if why := self.missing(self.file):
            raise DditError(why)
        path = self.path()
        if path.suffix == ".safetensors":
            return read(path)
        with loading(path, "weights"):
            return dict(torch.load(path, map_location="cpu", weights_only=True))


RAFT = Weights(
    "raft_large_C_T_V1-22a6c225.pth",
    "20 MB",
    "torchvision's port of raft-things",
    "22a6c225",
    "measure `dynamic_degree-classical`",
)
DINO = Weights(
    "dino_vitbase16_pretrain.pth",
    "343 MB",
    "the backbone that facebookresearch/dino publishes",
    None,
    "measure `subject_consistency-reader`",
)
CLIP_B32 = Weights(
    "ViT-B-32-openai.safetensors",
    "0.6 GB",
    "open_clip_model.safetensors of timm/vit_base_patch32_clip_224.openai",
    None,
    "measure `background_consistency-clip-world`",
)
CLIP_L14 = Weights(
    "ViT-L-14-openai.safetensors",
    "1.7 GB",
    "open_clip_model.safetensors of timm/vit_large_patch14_clip_224.openai",
    None,
    "leave the dimension out",
)
AESTHETIC = Weights(
    "sa_0_4_vit_l_14_linear.pth",
    "4 kB",
    "LAION's aesthetic-predictor",
    None,
    "leave the dimension out",
)
MUSIQ = Weights(
    "musiq_spaq_ckpt-358bb6af.pth",
    "0.1 GB",
    "release v0.1-weights of IQA-PyTorch",
    "358bb6af",
    "leave the dimension out",
)
