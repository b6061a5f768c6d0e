"""One record a sample, named by a hash of everything that decides it.

A record is `<key>.json` beside `<key>.png`, an animated PNG where the sample is a clip. The picture is
written first, so a record that can be read is complete; there is no index to keep in step, and any number
of processes may write at once. It holds the digest of its picture, and what is read again is checked: the
key against what the record says made it, the picture against its digest.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.rivals.row import Rival
from ddit_eval.schema import read, write
from ddit_eval.schema.record import FORMAT, Record, Sample
from ddit_eval.system.files import digest, write_bytes
from ddit_eval.system.plugins import source_of
from ddit_eval.system.read import file_digest

if TYPE_CHECKING:
    from torch import Tensor

Levels = NDArray[np.uint8]  # (F, H, W, 3); of a picture F = 1


class Job(Sample):
    """A sample to be made."""

    @property
    def key(self) -> str:
        return key_of(self)


def key_of(sample: Sample) -> str:
    """20 hex digits: equal for equal samples, whatever the method is called."""
    parts = {
        "format": FORMAT,
        "code": sample.code,
        "model": sample.model_hash,
        "adapter": sample.adapter_hash,
        "dtype": sample.dtype,
        "policy": sample.policy,
        "steps": sample.steps,
        "size": list(sample.size),
        "guidance": [sample.guidance_scale, sample.true_cfg_scale],
        "prompt": sample.prompt,
        "seed": sample.seed,
        "repeat": sample.repeat,
        "batch": sample.batch,
    }
    beside = {name: value for name in ("cache", "scheduler", "setup") if (value := getattr(sample, name))}
    return digest(parts | beside, 20)


def together(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that one call makes. Each names the call, whose size decides how its sums are rounded."""
    if len(jobs) == 1:
        return list(jobs)
    call = [[job.prompt, job.seed] for job in jobs]
    return [job.model_copy(update={"batch": digest([place, call])}) for place, job in enumerate(jobs)]


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


def code_of(*parts: object, beside: Rival | None = None) -> str:
    """`code_hash`; where a policy or a family comes from another package, with it that package's code. Where
    something runs beside the policy, with what puts it there, and a setup's own code."""
    outside = [source for part in parts if (source := source_of(part)) is not None]
    if beside and beside.beside:
        outside += [code_hash("rivals"), f"diffusers {version('diffusers')}"]
    if beside and beside.setup:
        from ddit_eval.rivals.setups import sources

        outside += sources(beside.setup)
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
        """The record, or None where it is not there.

        Raises `DditError` where it or its picture is not what was written under this key.
        """
        path, image = self.folder / f"{key}.json", self.folder / f"{key}.png"
        if not path.exists():
            return None
        record, again = read(path, Record), f"make it anew: {Record.made_by}"
        if not key == record.key == key_of(record):
            raise DditError(f"{path} is not the record of what it says it was made of; {again}")
        if record.image != image.name or not image.is_file() or file_digest(image) != record.image_sha256:
            raise DditError(f"{image} is not the picture that was written with its record; {again}")
        return record

    def save(self, job: Job, levels: Levels, trace: Sequence[StepTrace]) -> Record:
        """Write picture or clip, then record; raises `DditError` where the folder cannot be written to."""
        buffer = BytesIO()
        first, *others = pictures(levels)
        more = {"save_all": True, "append_images": others, "duration": round(1000 / job.fps)}
        first.save(buffer, "PNG", **(more if others else {}))
        key, data = job.key, buffer.getvalue()
        record = Record(
            key=key,
            image=f"{key}.png",
            image_sha256=hashlib.sha256(data).hexdigest(),
            trace=tuple(trace),
            **dict(job),
        )
        write_bytes(self.folder / record.image, data)
        write(self.folder / f"{key}.json", record)
        return record

    def frames(self, record: Record) -> list[Image.Image]:
        """The frames of a record's clip, or its one picture; RGB."""
        return frames_of(self.folder / record.image, record.frames)

    def levels(self, record: Record) -> Levels:
        """The same as an array."""
        return np.stack([np.asarray(frame) for frame in self.frames(record)])


def pictures(levels: Levels) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in levels]


def frames_of(path: Path, count: int) -> list[Image.Image]:
    """The `count` frames of a clip that `Store` wrote, or the one picture; RGB, each its own copy.

    Raises `DditError` where the file is gone by now, or another's.
    """
    found, times = [], []
    try:
        with Image.open(path) as film:
            for frame in islice(ImageSequence.Iterator(film), count):
                found.append(frame.convert("RGB"))
                times.append(float(frame.info.get("duration", 0)))
    except (OSError, ValueError, SyntaxError) as error:
        raise DditError(f"{path} does not read as a picture ({error}); {Record.made_by} mends it") from error
    # The writer merges equal frames into one that lasts longer, or that alone is left.
    shown = sum(times) / count
    repeats = [count] if len(found) == 1 else [round(lasts / shown) for lasts in times]
    return [f.copy() for f, n in zip(found, repeats, strict=True) for _ in range(n)]


def pixels_of(levels: Iterable[Levels]) -> Tensor:
    """What a metric takes: float32 (N, 3, H, W) in [0, 1], or of clips (N, F, 3, H, W)."""
    import torch

    pixels = torch.from_numpy(np.stack(list(levels))).movedim(-1, 2).float() / 255
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels
