"""Picture files to tensors: the one reader that every metric of files goes through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_levels(path: Path) -> NDArray[np.uint8]:
    """A picture's 8-bit levels, (H, W, 3). Raises `DditError` naming a file that is broken or deeper."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise DditError(f"{path} has more than 8 bits a channel: save it with 8")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DditError(f"{path} cannot be read as a picture ({error}): restore or remove it") from error


def read_picture(path: Path) -> Tensor:
    """A picture as float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(read_levels(path)).permute(2, 0, 1).float() / 255
