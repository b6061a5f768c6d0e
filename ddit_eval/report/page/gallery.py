"""The pictures that the page shows side by side: few and small enough to travel inside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ddit_eval.report.results import Json

SIDE = 384  # px, the longer side of an embedded picture
BYTES = 2_200_000  # of all embedded pictures together, as base64
MOST_PROMPTS = 8


@dataclass(frozen=True)
class Gallery:
    """`pictures[method][prompt]`: data: URIs, the base first; `notes`: a line for each method. `scaled`:
    whether they were made smaller or compressed with loss for the page."""

    prompts: Sequence[str]
    pictures: Mapping[str, Sequence[str]]
    notes: Mapping[str, str]
    scaled: bool = False


def gallery(
    records: Mapping[str, Sequence[Json]], methods: Sequence[str], notes: Mapping[str, str]
) -> Gallery | None:
    """The first prompts of which every method has a picture, as many as fit; None where there are none."""
    methods = [m for m in methods if m in records]
    if len(methods) < 2:
        return None
    images = {m: {r["index"]: r["image"] for r in records[m] if r["image"].is_file()} for m in methods}
    texts = {r["index"]: r["prompt"] for r in records[methods[0]]}
    prompts: list[str] = []
    pictures: dict[str, list[str]] = {m: [] for m in methods}
    size, scaled = 0, False
    for index in [i for i in sorted(texts) if all(i in images[m] for m in methods)][:MOST_PROMPTS]:
        made = {m: embed(images[m][index]) for m in methods}
        size += sum(len(uri) for uri, _ in made.values())
        if size > BYTES:
            break
        prompts.append(texts[index])
        for m, (uri, smaller) in made.items():
            pictures[m].append(uri)
            scaled |= smaller
    return Gallery(prompts, pictures, {m: notes.get(m, "") for m in methods}, scaled) if prompts else None


def embed(path: Path) -> tuple[str, bool]:
    """A picture as a data: URI of WebP, and whether it lost anything; small ones are lossless."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    small = max(image.size) <= 128
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=100 if small else 82, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", not small
