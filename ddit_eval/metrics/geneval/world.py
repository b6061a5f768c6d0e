"""GenEval on the captioned world: captions as its metadata, the reader as its detector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddit_eval.errors import DditError
from ddit_eval.metrics.geneval.metadata import Clause, Metadata
from ddit_eval.metrics.geneval.protocol import Detection, Result, verdict
from ddit_eval.world.caption import parse

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.metrics.pictures.adherence import Found

_RELATIONS = {"above": "above", "below": "below", "left": "left of", "right": "right of"}


@dataclass(frozen=True)
class WorldDetector:
    """The world's reader: a class is a shape. It is sure of all it finds (score 1), the largest come first,
    and a box is the square of the object's area around its centre."""

    name: str = "world reader (shipped)"

    def detect(self, picture: Tensor) -> Mapping[str, Sequence[Detection]]:
        from ddit_eval.world.reader import read

        height, width = picture.shape[-2:]
        return detections(read(picture[None].cpu())[0], height, width)

    def colours(self, picture: Tensor, found: Sequence[Detection], name: str) -> Sequence[str]:
        return own_colours(found, name)


def detections(found: Sequence[Found], height: int, width: int) -> dict[str, list[Detection]]:
    """What the reader found, by shape, in px of a picture of that size."""
    out: dict[str, list[Detection]] = {}
    for one in sorted(found, key=lambda thing: -thing.area):
        half = math.sqrt(one.area) / 2
        left, top = (one.x - half) * width, (one.y - half) * height
        box = (left, top, left + 2 * half * width, top + 2 * half * height)
        out.setdefault(one.shape, []).append(Detection(box, colour=one.colour))
    return out


def own_colours(found: Sequence[Detection], name: str) -> list[str]:
    """The colours that the detections carry."""
    return [one.colour or "" for one in found]


def metadata_of(caption: str) -> list[Metadata]:
    """What a caption of the world asks for, one line of metadata a task; none where it asks for nothing.

    One thing: `single_object` and `colors`. Two of different shapes: `two_object` and `color_attr`, and
    `position` where it tells one. Things of one shape alone: `counting`. Textures, sizes, places and
    backgrounds have no task.
    """
    prompt = parse(caption)
    things = prompt.things
    plain = tuple(Clause(t.shape) for t in things)
    coloured = tuple(Clause(t.shape, colour=t.colour) for t in things)
    shapes = {t.shape for t in things}
    if len(things) == 1:
        return [Metadata("single_object", caption, plain), Metadata("colors", caption, coloured)]
    if len(things) > 1 and len(shapes) == 1:
        (shape,) = shapes
        more = (Clause(shape, len(things) + 1),)
        return [Metadata("counting", caption, (Clause(shape, len(things)),), more)]
    if len(things) != 2:
        return []
    tasks = [Metadata("two_object", caption, plain), Metadata("color_attr", caption, coloured)]
    if prompt.relation:
        target, one = plain[1], Clause(things[0].shape, position=(_RELATIONS[prompt.relation], 0))
        tasks.append(Metadata("position", caption, (target, one)))
    return tasks


def world_results(pictures: Tensor, captions: Sequence[str]) -> list[Result]:
    """Verdicts on pictures (N, 3, H, W) in [0, 1], one for each task that a picture's caption asks for."""
    from ddit_eval.metrics.metric import check_pictures
    from ddit_eval.world.reader import read

    check_pictures(pictures, "pictures")
    if len(captions) != len(pictures):
        raise DditError(f"geneval needs one caption a picture: {len(captions)} for {len(pictures)}")
    height, width = pictures.shape[-2:]
    return [
        verdict(detections(found, height, width), metadata, own_colours, str(index))
        for index, (found, caption) in enumerate(zip(read(pictures.cpu()), captions, strict=True))
        for metadata in metadata_of(caption)
    ]
