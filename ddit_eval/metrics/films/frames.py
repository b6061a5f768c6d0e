"""Films as tensors: reading a gif, a folder of frames or a video file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.metric import check_pixels
from ddit_eval.metrics.pictures.read import read_levels

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FILMS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


@dataclass(frozen=True, eq=False)
class Film:
    """`frames`: float32 (T, 3, H, W) in [0, 1], T at least 2. `fps`: frames a second, None if unknown."""

    frames: Tensor
    fps: float | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise DditError(
                f"film frames must be (T, 3, H, W), not {shape}; permute the colours to their place"
            )
        check_pixels(self.frames, "film frames")
        if len(self.frames) < 2:
            raise DditError("a film needs at least 2 frames, and this one has 1: it is a picture")
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise DditError(
                f"frames a second must be a positive number, not {self.fps}; leave it out if unknown"
            )


def film_of(frames: Tensor, fps: float | None = None) -> Film:
    """A film from frames (T, 3, H, W), either bytes (uint8) or floats in [0, 1]."""
    if frames.dtype == torch.uint8:
        frames = frames.float() / 255
    return Film(frames.float() if frames.is_floating_point() else frames, fps)


def read(path: str | Path, fps: float | None = None) -> Film:
    """The film in a gif, in a folder of pictures or in a video file (.mp4 and the like: needs PyAV).

    Frames of a folder are taken in the order of the numbers in their names (frame2 before frame10) and
    carry no rate; `fps` gives one, and goes before the rate that a file states. Raises `DditError` where
    there is nothing to read, sizes differ or the reader of video files is not installed.
    """
    place = Path(path)
    if place.is_dir():
        frames, found = _folder(place), None
    elif not place.is_file():
        raise DditError(f"{place} is not there: give a gif, a folder of frames or a video file")
    elif place.suffix.lower() == ".gif":
        frames, found = _gif(place)
    elif place.suffix.lower() in FILMS:
        frames, found = _film(place)
    else:
        raise DditError(
            f"{place}: a {place.suffix or 'nameless kind of'} file is no film that is read here; give a "
            f"gif, a folder of pictures ({', '.join(PICTURES)}) or one of {', '.join(FILMS)}"
        )
    if len(frames) == 1:
        raise DditError(f"{place}: a film needs at least 2 frames, and this one has 1: it is a picture")
    return film_of(_stack(frames, place), found if fps is None else fps)


def _stack(frames: list[Any], place: Path) -> Tensor:
    """Arrays (H, W, 3) of bytes to (T, 3, H, W) of bytes."""
    if not frames:
        raise DditError(f"{place} holds no frames: give a film, or pictures ({', '.join(PICTURES)})")
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise DditError(
            f"{place}: frames differ in size (height, width), {sizes[0]} and {sizes[1]}; resize them"
        )
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def _folder(place: Path) -> list[Any]:
    paths = (p for p in place.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith("."))
    return [read_levels(path) for path in sorted(paths, key=_by_number)]


def _by_number(path: Path) -> list[Any]:
    """A key that puts frame2 before frame10."""
    # Every second part is a number, so that numbers meet numbers when two keys are compared.
    parts = re.split(r"([0-9]+)", path.stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)] + [path.name]


def _gif(place: Path) -> tuple[list[Any], float | None]:
    frames, times = [], []
    with _readable(place), Image.open(place) as film:
        for frame in ImageSequence.Iterator(film):
            frames.append(np.asarray(frame.convert("RGB")))
            times.append(float(frame.info.get("duration", 0)))
    return _evenly(frames, times)


def _evenly(frames: list[Any], times: list[float]) -> tuple[list[Any], float | None]:
    """Frames at even steps and their rate, from frames that last `times` milliseconds.

    Writers of gifs merge equal frames into one that lasts longer; where all times are multiples of the
    shortest, those frames are repeated, or a still moment would count as one frame.
    """
    step = min(times)
    if step <= 0:
        return frames, None
    repeats = [round(time / step) for time in times]
    if any(abs(time - n * step) > 1e-6 for time, n in zip(times, repeats, strict=True)):
        return frames, 1000 * len(times) / sum(times)
    return [frame for frame, n in zip(frames, repeats, strict=True) for _ in range(n)], 1000 / step


def _film(place: Path) -> tuple[list[Any], float | None]:
    if find_spec("av") is None:
        raise DditError(
            f"{place}: reading video files needs PyAV, which is not installed; `pip install av`, or give the "
            "film as a gif or as a folder of frames"
        )

    import av

    with _readable(place), av.open(str(place)) as film:
        if not film.streams.video:
            raise ValueError("it holds no video")
        stream = film.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        # A decoder ends quietly where a file does; the container knows how many there were.
        if len(frames) < stream.frames:
            raise ValueError(f"it ends after {len(frames)} of its {stream.frames} frames")
    return frames, float(rate) if rate else None


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a damaged file raises, the remedy is the same
        raise DditError(f"{place} cannot be read as a film or picture: {error}; write it again") from error
