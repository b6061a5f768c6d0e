"""Films as tensors: reading a gif, a folder of frames or a video file."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from ddit_eval.system.pictures import SUFFIXES, files_in, levels_of, read_levels, readable

# The container that an ending promises, so that a list of other files or addresses is not followed.
_CONTAINERS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
}
FILMS = tuple(_CONTAINERS)
MOST = 2**30  # pixels of all frames together: as floats they take twelve times as many bytes


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
    there is nothing to read, sizes differ, frames are more than fit into memory, or the reader of video
    files is not installed.
    """
    place = Path(path)
    if place.is_dir():
        frames, found = _folder(place), None
    elif not place.exists():
        raise DditError(f"{place} is not there: give a gif, a folder of frames or a video file")
    elif place.suffix.lower() == ".gif":
        frames, found = _gif(place)
    elif place.suffix.lower() in FILMS:
        frames, found = _film(place)
    else:
        raise DditError(
            f"{place}: a {place.suffix or 'nameless kind of'} file is no film that is read here; give a "
            f"gif, a folder of pictures ({', '.join(SUFFIXES)}) or one of {', '.join(FILMS)}"
        )
    if len(frames) == 1:
        raise DditError(f"{place}: a film needs at least 2 frames, and this one has 1: it is a picture")
    return film_of(_stack(frames, place), found if fps is None else fps)


def _stack(frames: list[Any], place: Path) -> Tensor:
    """Arrays (H, W, 3) of bytes to (T, 3, H, W) of bytes."""
    if not frames:
        raise DditError(f"{place} holds no frames: give a film, or pictures ({', '.join(SUFFIXES)})")
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise DditError(
            f"{place}: frames differ in size (height, width), {sizes[0]} and {sizes[1]}; resize them"
        )
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def _folder(place: Path) -> list[Any]:
    paths, frames = files_in(place, SUFFIXES).values(), []
    for path in paths:
        frames.append(read_levels(path))
        _check(place, len(paths), frames[0].shape[:2])
    return frames


def _gif(place: Path) -> tuple[list[Any], float | None]:
    frames, times = [], []
    with readable(place, "a film"), Image.open(place, formats=("GIF",)) as film:
        _check(place, getattr(film, "n_frames", 1), film.size)
        for frame in ImageSequence.Iterator(film):
            frames.append(levels_of(frame, place))
            times.append(round(frame.info.get("duration", 0)))
    return _evenly(place, frames, times)


def _check(place: Path, count: int, size: Sequence[int]) -> None:
    """Refuse what would not fit, before it is decoded."""
    if count * math.prod(size) > MOST:
        raise DditError(
            f"{place} has {count} frames of {' x '.join(map(str, size))} pixels, more than {MOST:,} in all: "
            "cut it into shorter films"
        )


def _evenly(place: Path, frames: list[Any], times: list[int]) -> tuple[list[Any], float | None]:
    """Frames at even steps and their rate, from frames that last `times` milliseconds.

    Writers merge equal frames into one that lasts longer: it is repeated, or a still moment would count as
    one frame. Times that are not multiples of the shortest (a gif rounds to 10 ms) are so of a shorter step.
    """
    if min(times) <= 0:
        return frames, None
    repeats = [round(time / min(times)) for time in times]
    step: float = sum(times) / sum(repeats)
    if any(abs(time - n * step) > 10 for time, n in zip(times, repeats, strict=True)):
        step = math.gcd(*times)
        repeats = [round(time / step) for time in times]
    if sum(repeats) > 8 * len(frames) + 64:
        raise DditError(
            f"{place} shows its {len(frames)} frames for {min(times)} to {max(times)} ms, at an even rate "
            f"{sum(repeats)}: write it at one rate"
        )
    _check(place, sum(repeats), frames[0].shape[:2])
    return [frame for frame, n in zip(frames, repeats, strict=True) for _ in range(n)], 1000 / step


def _film(place: Path) -> tuple[list[Any], float | None]:
    if find_spec("av") is None:
        raise DditError(
            f"{place}: reading video files needs PyAV, which is not installed; `pip install av`, or give the "
            "film as a gif or as a folder of frames"
        )

    import av

    # Of a bare name with a colon its start would be a protocol.
    container = _CONTAINERS[place.suffix.lower()]
    with readable(place, "a film"), av.open(str(place.absolute()), format=container) as film:
        if not film.streams.video:
            raise ValueError("it holds no video")
        stream = film.streams.video[0]
        _check(place, stream.frames, (stream.width, stream.height))
        frames: list[Any] = []
        starts: list[float | None] = []
        for frame in film.decode(stream):
            _check(place, len(frames) + 1, (frame.width, frame.height))
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
            starts.append(frame.time)
        # A decoder ends quietly where a file does; the container knows how many there were.
        if len(frames) < stream.frames:
            raise ValueError(f"it ends after {len(frames)} of its {stream.frames} frames")
        rate = stream.average_rate or stream.guessed_rate
    if len(frames) < 2 or None in starts:
        return frames, float(rate) if rate else None
    times = 1000 * np.diff(np.array(starts, float))
    step = float(np.median(times))
    # A camera's clock wavers, and a frame in a hundred may come late: only what is no rule is resampled.
    if np.count_nonzero(np.abs(times - step) > step / 4) <= len(times) // 20:
        return frames, float(rate) if rate else 1000 / step
    whole = [*np.rint(times).astype(int).tolist(), round(float(times[-1]))]
    shown, even = _evenly(place, frames, whole)
    return shown, float(rate) if rate and len(shown) == len(frames) else even
