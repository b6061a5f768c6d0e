"""The pictures or clips that the page shows side by side: few and small enough to travel inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ddit_eval.experiment.records import frames_of
from ddit_eval.judging.results import shared_pictures
from ddit_eval.schema import Record

SIDE = 384  # px, the longer side of an embedded picture
BYTES = 2_200_000  # of all embedded pictures together, as base64
MOST_PROMPTS = 8


@dataclass(frozen=True)
class Gallery:
    """`pictures[method][prompt]`: data: URIs, the base first; `notes`: a line for each method. `scaled`:
    whether they were made smaller or compressed with loss for the page.

    A clip is a strip of its `frames`, one below the other, shown `fps` a second.
    """

    prompts: Sequence[str]
    pictures: Mapping[str, Sequence[str]]
    notes: Mapping[str, str]
    scaled: bool = False
    frames: int = 1
    fps: float = 1


def gallery(
    records: Mapping[str, Sequence[Record]], methods: Sequence[str], notes: Mapping[str, str]
) -> Gallery | None:
    """The first prompts of which every method has a picture, as many as fit; None where there are none."""
    methods = [m for m in methods if m in records]
    if len(methods) < 2:
        return None
    first = records[methods[0]][0]
    frames, fps = first.frames, float(first.fps)
    prompts: list[str] = []
    pictures: dict[str, list[str]] = {m: [] for m in methods}
    size, scaled = 0, False
    for prompt, files in shared_pictures(records, methods)[:MOST_PROMPTS]:
        made = {m: embed(file, frames) for m, file in files.items()}
        size += sum(len(uri) for uri, _ in made.values())
        if size > BYTES:
            break
        prompts.append(prompt)
        for m, (uri, smaller) in made.items():
            pictures[m].append(uri)
            scaled |= smaller
    if not prompts:
        return None
    return Gallery(prompts, pictures, {m: notes.get(m, "") for m in methods}, scaled, frames, fps)


def embed(path: Path, frames: int = 1) -> tuple[str, bool]:
    """A picture, or a clip's strip, as a data: URI of WebP, and whether it lost anything; small pictures are
    lossless."""
    shown = frames_of(path, frames)
    small = max(shown[0].size) <= 128 and frames == 1
    for frame in shown:
        frame.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    width, height = shown[0].size
    image = Image.new("RGB", (width, height * len(shown)))
    for number, frame in enumerate(shown):
        image.paste(frame, (0, number * height))
    buffer = BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=100 if small else 82, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", not small
