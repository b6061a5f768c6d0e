"""Writing clips that a player can play."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError
from ddit_eval.system.files import whole

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITY = 12  # constant rate factor of H.264: to the eye without loss


def write_sample(frames: Sequence[Image], stem: Path, fps: int) -> Path:
    """A picture as `stem`.png; a clip as `stem`.mp4 where PyAV is installed and the sides are even, else
    as `stem`.gif."""
    if len(frames) == 1:
        path = stem.with_name(stem.name + ".png")
        with whole(path) as temporary:
            frames[0].save(temporary, "PNG")
        return path
    even = not any(side % 2 for side in frames[0].size)
    ending = ".mp4" if even and find_spec("av") else ".gif"
    return write_film(frames, stem.with_name(stem.name + ending), fps)


def write_film(frames: Sequence[Image], path: Path, fps: int) -> Path:
    """RGB frames of one size as .gif or .mp4 (H.264, by PyAV). Raises `DditError` where that cannot be."""
    if path.suffix == ".gif":
        more = {"append_images": list(frames[1:]), "duration": round(1000 / fps), "loop": 0}
        with whole(path) as temporary:
            frames[0].save(temporary, "GIF", save_all=True, **more)
    elif path.suffix == ".mp4":
        _write_mp4(frames, path, fps)
    else:
        raise DditError(f"{path}: clips are written as .gif or .mp4")
    return path


def _write_mp4(frames: Sequence[Image], path: Path, fps: int) -> None:
    if find_spec("av") is None:
        raise DditError(f"{path}: writing mp4 needs PyAV; `pip install av`, or choose .gif")
    import av

    width, height = frames[0].size
    if width % 2 or height % 2:
        raise DditError(f"{path}: H.264 needs even sides, not {width} x {height}; choose .gif")
    with whole(path) as temporary, av.open(str(temporary), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=fps, options={"crf": str(QUALITY)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_image(frame)))
        film.mux(stream.encode())
