"""The reader: a small trained network that reads objects off a picture.

It labels every second pixel with shape, colour and texture; connected regions become objects.
Train it with `python -m experiments.recipes.reader`. Its accuracy on true scenes and on the VAE's
reconstructions is the ceiling that generated pictures are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from ddit_eval.errors import DditError
from ddit_eval.system.tensors import fill
from ddit_eval.world.scene import COLOURS, SHAPES, TEXTURES

SIDE = 64  # pictures are brought to this side before they are read
CLASSES = (len(SHAPES) + 1, len(COLOURS) + 1, len(TEXTURES) + 1)  # 0: background
SMALLEST = 12  # cells (of 32 x 32); a smaller region is a speck, not an object


@dataclass(frozen=True)
class Found:
    """An object found in a picture; centre and area as fractions of the picture."""

    shape: str
    colour: str
    texture: str
    x: float
    y: float
    area: float


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Reader(nn.Module):
    """Pictures (N, 3, 64, 64) in [0, 1] to logits (N, sum(CLASSES), 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(3, 24, 2), _block(24, 48))
        self.middle = nn.Sequential(_block(48, 64, 2), _block(64, 64))
        self.coarse = nn.Sequential(_block(64, 96, 2), _block(96, 96))
        self.up = nn.Sequential(_block(96 + 64, 64))
        self.head = nn.Sequential(_block(64 + 48, 48), nn.Conv2d(48, sum(CLASSES), 1))

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Activations at three depths, fine to coarse, for perceptual distances."""
        fine = self.fine(pictures * 2 - 1)
        middle = self.middle(fine)
        return [fine, middle, self.coarse(middle)]

    def forward(self, pictures: Tensor) -> Tensor:
        fine, middle, coarse = self.features(pictures)
        x = self.up(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        return self.head(torch.cat([F.interpolate(x, scale_factor=2.0), fine], 1))


@lru_cache(maxsize=1)
def load_reader(folder: Path | None = None) -> Reader:
    """The shipped reader in evaluation mode, or one from `folder`."""
    root = Path(str(resources.files("ddit_eval"))) / "weights" / "reader" if folder is None else folder
    path = root / "reader.safetensors"
    if not path.is_file():
        raise DditError(
            f"no reader weights at {path}: reinstall the package, or train them with "
            "`python -m experiments.recipes.reader --out FOLDER`"
        )
    reader = Reader()
    fill(reader, path, "train one with `python -m experiments.recipes.reader --out FOLDER`")
    return reader.eval().requires_grad_(False)


def objects(logits: Tensor) -> list[Found]:
    """Connected regions of one picture's logits (sum(CLASSES), H, W) as objects."""
    shape, colour, texture = (p.float().log_softmax(0).numpy() for p in logits.split(CLASSES))
    regions, count = ndimage.label(shape.argmax(0) != 0)
    found = []
    for region in range(1, count + 1):
        mask = regions == region
        if mask.sum() < SMALLEST:
            continue
        y, x = ndimage.center_of_mass(mask)
        # Every cell of the region votes with its log-probability; background is no candidate.
        votes = [int(p[1:, mask].sum(1).argmax()) for p in (shape, colour, texture)]
        found.append(
            Found(
                SHAPES[votes[0]],
                COLOURS[votes[1]],
                TEXTURES[votes[2]],
                float((x + 0.5) / mask.shape[1]),
                float((y + 0.5) / mask.shape[0]),
                float(mask.mean()),
            )
        )
    return found


def at_its_side(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) at the side that the reader was trained at: (N, 3, 64, 64)."""
    if pictures.shape[-2:] == (SIDE, SIDE):
        return pictures
    return F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


@torch.no_grad()
def read(pictures: Tensor | np.ndarray, reader: Reader | None = None) -> list[list[Found]]:
    """The objects in each picture (N, 3, H, W) in [0, 1], at any square size."""
    reader = reader or load_reader()
    x = at_its_side(torch.as_tensor(pictures, dtype=torch.float32))
    return [objects(one) for chunk in x.split(64) for one in reader(chunk)]
