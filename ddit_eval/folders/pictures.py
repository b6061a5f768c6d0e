"""A folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.sets.reference import PictureSet, folder_set
from ddit_eval.system.pictures import SUFFIXES, files_in, read_levels


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder by name without ending, in the order of the names."""

    folder: Path
    files: dict[str, Path]
    of: Literal["pictures"] = "pictures"

    @cached_property
    def stack(self) -> Tensor:
        """(N, 3, H, W) float in [0, 1], decoded once. Raises `DditError` where sizes differ."""
        arrays: list[np.ndarray] = []
        for path in self.files.values():
            arrays.append(read_levels(path))
            if arrays[-1].shape != arrays[0].shape:
                sizes = ["{1} x {0}".format(*a.shape) for a in (arrays[-1], arrays[0])]
                first = next(iter(self.files))
                raise DditError(f"{path} is {sizes[0]} and {first} is {sizes[1]}; bring them to one size")
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255

    @cached_property
    def hash(self) -> str:
        return self._set().hash

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.stack.shape[-2:])

    def batches(self) -> Iterator[tuple[Tensor, None]]:
        """All pictures at once."""
        yield self.stack, None

    def check(self) -> None:
        """Decode the pictures: raises `DditError` where one cannot be read or sizes differ."""
        _ = self.stack

    def as_set(self) -> tuple[PictureSet, None]:
        """The set of the decoded pictures."""
        return replace(self._set(), pictures=lambda: iter(self.stack.split(32))), None

    def _set(self) -> PictureSet:
        return folder_set(self.folder, [path.name for path in self.files.values()])


def picture_folder(folder: Path) -> PictureFolder:
    """Raises `DditError` if there are no pictures or if two have the same name."""
    if not folder.is_dir():
        raise DditError(f"there is no folder {folder}; give a folder of pictures")
    files = files_in(folder, SUFFIXES)
    if not files:
        raise DditError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    return PictureFolder(folder, files)
