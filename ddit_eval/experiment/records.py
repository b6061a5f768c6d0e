"""One record a sample, named by a hash of everything that decides it.

A record is `<key>.json` beside `<key>.png`, an animated PNG where the sample is a clip. The picture is
written first, so a record that can be read is complete; there is no index to keep in step, and any number
of processes may write at once.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval.experiment.prompts import Prompt
from ddit_eval.system.files import digest, write_bytes, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = 1
_FIELDS = {
    "key": str, "model": str, "method": str, "policy": dict, "prompt": str, "index": int, "seed": int,
    "height": int, "width": int, "steps": int, "image": str, "trace": list,
}  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """Names and fingerprints of what a run was made with."""

    model: str
    model_hash: str
    adapter: str | None
    adapter_hash: str | None
    dtype: str


@dataclass(frozen=True)
class Job:
    """A sample to be made. `method` is its name in the table, which is no part of its key."""

    weights: Weights
    method: str
    policy: dict[str, Any]
    steps: int
    height: int
    width: int
    guidance_scale: float
    true_cfg_scale: float
    prompt: Prompt
    repeat: int = 0  # tells null rows (the same method once more) apart
    code: str = ""
    frames: int = 1  # of a clip; a picture has one
    fps: int = 8  # that a clip is played at, which is no part of its key

    @property
    def key(self) -> str:
        """20 hex digits: equal for equal samples, whatever the method is called."""
        parts = {
            "format": FORMAT,
            "code": self.code,
            "model": self.weights.model_hash,
            "adapter": self.weights.adapter_hash,
            "dtype": self.weights.dtype,
            "policy": self.policy,
            "steps": self.steps,
            "size": [self.height, self.width] + ([self.frames] if self.frames > 1 else []),
            "guidance": [self.guidance_scale, self.true_cfg_scale],
            "prompt": self.prompt.text,
            "seed": self.prompt.seed,
            "repeat": self.repeat,
        }
        return digest(parts, 20)

    def record(self, trace: list[dict[str, Any]]) -> dict[str, Any]:
        """The record of this job, given its trace in JSON form."""
        return {
            "format": FORMAT,
            "key": self.key,
            "image": f"{self.key}.png",
            "model": self.weights.model,
            "model_hash": self.weights.model_hash,
            "adapter": self.weights.adapter,
            "adapter_hash": self.weights.adapter_hash,
            "dtype": self.weights.dtype,
            "code": self.code,
            "method": self.method,
            "policy": self.policy,
            "steps": self.steps,
            "height": self.height,
            "width": self.width,
            "guidance_scale": self.guidance_scale,
            "true_cfg_scale": self.true_cfg_scale,
            "prompt": self.prompt.text,
            "index": self.prompt.index,
            "seed": self.prompt.seed,
            "repeat": self.repeat,
            "trace": trace,
        } | ({"frames": self.frames, "fps": self.fps} if self.frames > 1 else {})


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

    def load(self, key: str) -> dict[str, Any] | None:
        """The record, or None where it is not there or broken; a broken one is named in a warning."""
        path = self.folder / f"{key}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            self._check(key, record)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, ValueError) as error:
            warnings.warn(f"the record {path} is corrupt and will be made again ({error})", stacklevel=2)
            return None
        return dict(record)

    def _check(self, key: str, record: Any) -> None:
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"it is not a record of format {FORMAT}")
        for name, kind in _FIELDS.items():
            if not isinstance(record.get(name), kind):
                raise ValueError(f"{name!r} is missing or not {kind.__name__}")
        if record["key"] != key:
            raise ValueError(f"it says that its key is {record['key']}")
        image = self.folder / f"{key}.png"
        # A PNG ends with an IEND chunk: a picture that was cut short does not.
        if not image.is_file() or image.read_bytes()[-8:-4] != b"IEND":
            raise ValueError(f"its picture {image.name} is missing or cut short")

    def save(self, job: Job, frames: Sequence[Image], trace: list[dict[str, Any]]) -> dict[str, Any]:
        """Write picture (a clip's `frames`), then record; raises `DditError` where the folder cannot be
        written to."""
        buffer = BytesIO()
        if len(frames) == 1:
            frames[0].save(buffer, format="PNG")
        else:
            shown = round(1000 / job.fps)
            frames[0].save(buffer, "PNG", save_all=True, append_images=list(frames[1:]), duration=shown)
        write_bytes(self.folder / f"{job.key}.png", buffer.getvalue())
        record = job.record(trace)
        write_json(self.folder / f"{job.key}.json", record)
        return record

    def frames(self, record: dict[str, Any]) -> list[Image]:
        """The frames of a record's clip, or its one picture; RGB."""
        return frames_of(self.folder / record["image"], int(record.get("frames", 1)))

    def image(self, record: dict[str, Any]) -> Image:
        """The picture of a record (a clip's first frame), RGB."""
        from PIL import Image

        with Image.open(self.folder / record["image"]) as image:
            return image.convert("RGB")


def frames_of(path: Path, count: int) -> list[Image]:
    """The `count` frames of a clip that `Store` wrote, or the one picture; RGB, each its own copy."""
    from PIL import Image, ImageSequence

    found, times = [], []
    with Image.open(path) as film:
        for frame in ImageSequence.Iterator(film):
            found.append(frame.convert("RGB"))
            times.append(float(frame.info.get("duration", 0)))
    # The writer merges equal frames into one that lasts longer, or that alone is left.
    shown = sum(times) / count
    repeats = [count] if len(found) == 1 else [round(lasts / shown) for lasts in times]
    return [f.copy() for f, n in zip(found, repeats, strict=True) for _ in range(n)]
