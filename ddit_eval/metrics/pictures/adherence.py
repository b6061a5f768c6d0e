"""Prompt adherence in the captioned world: is what the caption promises in the picture?

A reader network lists the objects of a picture; they are assigned one to one to the prompted things,
so that an object counts once, and each promise is scored. Chance is never credited: a relation is
right only if both of its things were found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.pictures.reader_lpips import missing
from ddit_eval.metrics.weights import READER, shipped
from ddit_eval.world.caption import Prompt, ThingWords, parse
from ddit_eval.world.reader import Found, read

if TYPE_CHECKING:
    from torch import Tensor

# Assignment: whole objects first, then single attributes, then the texture. Each weight outweighs
# all that the next can add over the things of one picture.
_WHOLE, _ATTRIBUTE, _TEXTURE = 1000.0, 30.0, 1.0
# A thing is to the left (right, top, bottom) when its centre is at least this far from the middle,
# as a fraction of the side; scenes put it between .17 and .27 away, and "middle" within .03.
_OFF_CENTRE = 0.10
MARGIN = 0.05  # one object in twenty


@dataclass(frozen=True)
class Adherence:
    """Scores of one picture, 0 to 1; nan where the prompt does not ask.

    `object`: share of things whose shape AND colour are right. `shape`, `colour`, `texture`: share of
    things with that attribute right in the object assigned to them. `count`: as many objects as
    things. `relation`: both things found and standing as said. `place`: the thing found, and there.
    """

    object: float
    shape: float
    colour: float
    texture: float
    count: float
    relation: float
    place: float


def match(things: Sequence[ThingWords], found: Sequence[Found]) -> list[Found | None]:
    """The object assigned to each thing, or None; no object is used twice.

    The assignment has the greatest agreement (Hungarian algorithm). Objects that share neither shape
    nor colour with a thing are not assigned to it.
    """
    assigned: list[Found | None] = [None] * len(things)
    if not things or not found:
        return assigned
    gain = np.array([[_agreement(thing, one) for one in found] for thing in things])
    for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
        if gain[row, column] >= _ATTRIBUTE:
            assigned[int(row)] = found[int(column)]
    return assigned


def score(prompt: Prompt, found: Sequence[Found]) -> Adherence:
    """Scores of one picture whose objects are `found`."""
    things = prompt.things
    if not things:
        return Adherence(*[math.nan] * len(fields(Adherence)))
    objects = match(things, found)
    pairs = list(zip(things, objects, strict=True))

    def share(right: Iterable[bool]) -> float:
        return sum(right) / len(things)

    return Adherence(
        object=share(is_prompted(thing, one) for thing, one in pairs),
        shape=share(one is not None and one.shape == thing.shape for thing, one in pairs),
        colour=share(one is not None and one.colour == thing.colour for thing, one in pairs),
        texture=share(one is not None and one.texture == thing.texture for thing, one in pairs),
        count=float(len(found) == len(things)),
        relation=_relation(prompt, objects),
        place=_place(prompt, objects),
    )


def stands(relation: str, first: Found, second: Found) -> bool:
    """Whether `first` stands above / below / left / right of `second`: that way more than any other."""
    dx, dy = first.x - second.x, first.y - second.y
    along, across = {"above": (-dy, dx), "below": (dy, dx), "left": (-dx, dy), "right": (dx, dy)}[relation]
    return along > abs(across)


def is_at(place: str, one: Found) -> bool:
    """Whether an object stands on the named side of the picture, or in its middle."""
    dx, dy = one.x - 0.5, one.y - 0.5
    if place == "middle":
        return max(abs(dx), abs(dy)) < _OFF_CENTRE
    along, across = {"left": (-dx, dy), "right": (dx, dy), "top": (-dy, dx), "bottom": (dy, dx)}[place]
    return along >= _OFF_CENTRE and along > abs(across)


def is_prompted(thing: ThingWords, one: Found | None) -> bool:
    """Whether an object has the prompted shape and colour."""
    return one is not None and one.shape == thing.shape and one.colour == thing.colour


def _agreement(thing: ThingWords, one: Found) -> float:
    attributes = (one.shape == thing.shape) + (one.colour == thing.colour)
    return _WHOLE * (attributes == 2) + _ATTRIBUTE * attributes + _TEXTURE * (one.texture == thing.texture)


def _relation(prompt: Prompt, objects: Sequence[Found | None]) -> float:
    if prompt.relation is None or len(objects) < 2:
        return math.nan
    first, second = objects[:2]
    return float(first is not None and second is not None and stands(prompt.relation, first, second))


def _place(prompt: Prompt, objects: Sequence[Found | None]) -> float:
    if prompt.place is None:
        return math.nan
    one = objects[-1]  # a caption names the place last, after the thing that stands there
    return float(one is not None and is_at(prompt.place, one))


def _measure(pictures: Tensor, reference: Tensor | None, prompts: Sequence[str]) -> dict[str, list[float]]:
    scores = [score(parse(text), found) for text, found in zip(prompts, read(pictures.cpu()), strict=True)]
    names = [column.name for column in METRIC.columns]
    return dict(zip(names, map(list, zip(*map(astuple, scores), strict=True)), strict=True))


METRIC = Metric(
    "adherence",
    tuple(
        Column(f"{f.name}-accuracy", "higher", 0.0, 1.0, role="adherence", rank=rank, margin=MARGIN)
        for rank, f in enumerate(fields(Adherence))
    ),
    "prompts",
    _measure,
    source="objects read off the picture, assigned one to one to the caption's things",
    network="world reader (shipped)",
    note="mean over the pictures whose prompt asks; the reader's own errors are included",
    weights=shipped(READER),
    missing=missing,
)
