"""One record a sample, named by a hash of everything that decides it.

A record is `<key>.json` beside `<key>.png`, an animated PNG where the sample is a clip. The picture is
written first, so a record that can be read is complete; there is no index to keep in step, and any number
of processes may write at once.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.schema import read, write
from ddit_eval.schema.record import FORMAT, Record, Sample
from ddit_eval.system.files import digest, write_bytes
from ddit_eval.system.plugins import source_of

if TYPE_CHECKING:
    from torch import Tensor

Levels = NDArray[np.uint8]  # (F, H, W, 3); of a picture F = 1


class Job(Sample):
    """A sample to be made."""

    @property
    def key(self) -> str:
        """20 hex digits: equal for equal samples, whatever the method is called."""
        parts = {
            "format": FORMAT,
            "code": self.code,
            "model": self.model_hash,
            "adapter": self.adapter_hash,
            "dtype": self.dtype,
            "policy": self.policy,
            "steps": self.steps,
            "size": list(self.size),
            "guidance": [self.guidance_scale, self.true_cfg_scale],
            "prompt": self.prompt,
            "seed": self.seed,
            "repeat": self.repeat,
        }
        return digest(parts, 20)

    def record(self, trace: Sequence[StepTrace]) -> Record:
        return Record(key=self.key, image=f"{self.key}.png", trace=tuple(trace), **dict(self))


@lru_cache(maxsize=8)
def code_hash(*folders: str) -> str:
    """12 hex digits of folders of the package, by default of `ddit`, which decides a picture.

    Blind to comments, docstrings and layout, so that tidying up throws no record away.
    """
    root = Path(str(resources.files("ddit_eval")))
    code = hashlib.sha256()
    for name in folders or ("ddit",):
        paths = sorted((root / name).rglob("*.py"))
        if not paths:
            raise ValueError(f"no code in {root / name}")
        for path in paths:
            code.update(f"{path.relative_to(root).as_posix()}\n{_bare(path.read_text('utf-8'))}\n".encode())
    return code.hexdigest()[:12]


def code_of(*parts: object) -> str:
    """`code_hash`; where a policy or a family comes from another package, with it that package's code."""
    outside = [source for part in parts if (source := source_of(part)) is not None]
    return digest([code_hash(), *outside]) if outside else code_hash()


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            ]
    return ast.unparse(tree)


class Store:
    """A folder of records."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str) -> Record | None:
        """The record, or None where it is not there or broken; a broken one is named in a warning."""
        path = self.folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            record = read(path, Record)
            self._check(key, record)
        except (OSError, DditError) as error:
            warnings.warn(f"the record {path} is corrupt and will be made again ({error})", stacklevel=2)
            return None
        return record

    def _check(self, key: str, record: Record) -> None:
        if record.key != key:
            raise DditError(f"it says that its key is {record.key}")
        image = self.folder / record.image
        # A PNG ends with an IEND chunk: a picture that was cut short does not.
        if not image.is_file() or image.read_bytes()[-8:-4] != b"IEND":
            raise DditError(f"its picture {image.name} is missing or cut short")

    def save(self, job: Job, levels: Levels, trace: Sequence[StepTrace]) -> Record:
        """Write picture or clip, then record; raises `DditError` where the folder cannot be written to."""
        buffer = BytesIO()
        first, *others = pictures(levels)
        more = {"save_all": True, "append_images": others, "duration": round(1000 / job.fps)}
        first.save(buffer, "PNG", **(more if others else {}))
        write_bytes(self.folder / f"{job.key}.png", buffer.getvalue())
        record = job.record(trace)
        self.rewrite(record)
        return record

    def rewrite(self, record: Record) -> None:
        write(self.folder / f"{record.key}.json", record)

    def frames(self, record: Record) -> list[Image.Image]:
        """The frames of a record's clip, or its one picture; RGB."""
        return frames_of(self.folder / record.image, record.frames)

    def levels(self, record: Record) -> Levels:
        """The same as an array."""
        return np.stack([np.asarray(frame) for frame in self.frames(record)])


def pictures(levels: Levels) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in levels]


def frames_of(path: Path, count: int) -> list[Image.Image]:
    """The `count` frames of a clip that `Store` wrote, or the one picture; RGB, each its own copy."""
    found, times = [], []
    with Image.open(path) as film:
        for frame in ImageSequence.Iterator(film):
            found.append(frame.convert("RGB"))
            times.append(float(frame.info.get("duration", 0)))
    # The writer merges equal frames into one that lasts longer, or that alone is left.
    shown = sum(times) / count
    repeats = [count] if len(found) == 1 else [round(lasts / shown) for lasts in times]
    return [f.copy() for f, n in zip(found, repeats, strict=True) for _ in range(n)]


def pixels_of(levels: Iterable[Levels]) -> Tensor:
    """What a metric takes: float32 (N, 3, H, W) in [0, 1], or of clips (N, F, 3, H, W)."""
    import torch

    pixels = torch.from_numpy(np.stack(list(levels))).movedim(-1, 2).float() / 255
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels
