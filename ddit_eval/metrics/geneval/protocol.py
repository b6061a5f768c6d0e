"""GenEval's rules: detections of one picture against what its prompt asks for.

The definitions (thresholds, order of checks, the position rule, the sentences of a reason) are those of
GenEval's own evaluation script, so that the same detections give the same verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddit_eval.errors import DditError
from ddit_eval.metrics.geneval.metadata import COLOURS, Metadata

if TYPE_CHECKING:
    from torch import Tensor

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detection:
    """An object: `box` (left, top, right, bottom) in px, `score` in [0, 1]; its mask (H, W) and its colour
    where the detector knows them."""

    box: Box
    score: float = 1.0
    mask: NDArray[np.bool_] | None = None
    colour: str | None = None


class Detector(Protocol):
    """What GenEval's rules need. `name` goes beside every score."""

    @property
    def name(self) -> str: ...

    def detect(self, picture: Tensor) -> Mapping[str, Sequence[Detection]]:
        """Objects by class in a float picture (3, H, W) in [0, 1]; any order, no threshold."""
        ...

    def colours(self, picture: Tensor, found: Sequence[Detection], name: str) -> Sequence[str]:
        """The colour of each of these objects of the class `name`."""
        ...


# (objects, their class) -> the colour of each
Colours: TypeAlias = Callable[[Sequence[Detection], str], Sequence[str]]


@dataclass(frozen=True)
class Rules:
    """GenEval's numbers. `overlap`: IoU from which the weaker of two objects of a class goes (1: never);
    `margin`: share of both boxes' sizes that an offset must exceed to count as a position."""

    score: float = 0.3
    counting_score: float = 0.9
    most: int = 16
    overlap: float = 1.0
    margin: float = 0.1


OFFICIAL = Rules()


@dataclass(frozen=True)
class Result:
    """A picture's verdict; `reason` holds a line for each thing that is wrong."""

    filename: str
    metadata: Metadata
    correct: bool
    reason: str
    boxes: Mapping[str, list[list[float]]]

    @property
    def tag(self) -> str:
        return self.metadata.tag


def measure(
    picture: Tensor, metadata: Metadata, detector: Detector, filename: str = "", rules: Rules = OFFICIAL
) -> Result:
    """The verdict on a float picture (3, H, W) in [0, 1]."""

    def colours(objects: Sequence[Detection], name: str) -> Sequence[str]:
        return detector.colours(picture, objects, name)

    return verdict(detector.detect(picture), metadata, colours, filename, rules)


def verdict(
    objects: Mapping[str, Sequence[Detection]],
    metadata: Metadata,
    colours: Colours,
    filename: str = "",
    rules: Rules = OFFICIAL,
) -> Result:
    """The verdict on all objects that a detector gave, by class."""
    least = rules.counting_score if metadata.tag == "counting" else rules.score
    above = {name: kept(found, least, rules) for name, found in objects.items()}
    correct, reason = judge(above, metadata, colours, rules.margin)
    boxes = {
        name: [[*map(float, o.box), float(o.score)] for o in found] for name, found in above.items() if found
    }
    return Result(filename, metadata, correct, reason, boxes)


def kept(objects: Iterable[Detection], least: float, rules: Rules) -> list[Detection]:
    """Objects above the threshold, the surest first, at most `most`, none that overlaps a surer one."""
    ordered = sorted((o for o in objects if o.score > least), key=lambda o: -o.score)[: rules.most]
    out: list[Detection] = []
    for one in ordered:
        if rules.overlap == 1 or all(iou(one.box, other.box) < rules.overlap for other in out):
            out.append(one)
    return out


def iou(one: Box, other: Box) -> float:
    """Intersection over union of boxes whose last pixels count, as in GenEval."""

    def area(left: float, top: float, right: float, bottom: float) -> float:
        return max(right - left + 1, 0) * max(bottom - top + 1, 0)

    common = area(max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    union = area(*one) + area(*other) - common
    return common / union if union else 0.0


def relations(one: Box, other: Box, margin: float = 0.1) -> tuple[str, ...]:
    """How `one` lies from `other`: none, one or two of "left of", "right of", "above", "below".

    On each axis the offset of the centres is shortened by `margin` times the sum of both sizes; what is left,
    over the length of the whole offset, must exceed 1/2.
    """
    a, b = np.reshape(one, (2, 2)), np.reshape(other, (2, 2))
    offset = a.mean(0) - b.mean(0)
    sizes = np.abs(a[1] - a[0]) + np.abs(b[1] - b[0])
    left_over = np.maximum(np.abs(offset) - margin * sizes, 0) * np.sign(offset)
    if np.all(np.abs(left_over) < 1e-3):
        return ()
    dx, dy = left_over / np.linalg.norm(offset)
    named = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return tuple(name for name, holds in named.items() if holds)


def judge(
    objects: Mapping[str, Sequence[Detection]],
    metadata: Metadata,
    colours: Colours,
    margin: float = 0.1,
) -> tuple[bool, str]:
    """Whether the objects (by class, the surest first) are what the prompt asks for, and else why not.

    Every clause of `include` must hold and none of `exclude`. Of a class the `count` surest objects are
    looked at: all must have the colour, and stand in the position to all objects of the target's clause.
    """
    reasons: list[str] = []
    groups: list[Sequence[Detection] | None] = []  # by clause; None where it failed
    for clause in metadata.include:
        found = list(objects.get(clause.name, ()))[: clause.count]
        why = None
        if len(found) < clause.count:
            why = f"expected {clause.name}>={clause.count}, found {len(found)}"
        if why is None and clause.colour is not None:
            why = _wrong_colour(list(colours(found, clause.name)), clause.name, clause.count, clause.colour)
        if why is None and clause.position is not None:
            relation, target = clause.position
            why = _wrong_position(found, groups[target], clause.name, relation, margin)
        if why is not None:
            reasons.append(why)
        groups.append(found if why is None else None)
    for clause in metadata.exclude:
        count = len(objects.get(clause.name, ()))
        if count >= clause.count:
            reasons.append(f"expected {clause.name}<{clause.count}, found {count}")
    return not reasons, "\n".join(reasons)


def _wrong_colour(seen: list[str], name: str, count: int, colour: str) -> str | None:
    right = seen.count(colour)
    if right >= count:
        return None
    order = [*COLOURS, *sorted(set(seen) - set(COLOURS))]
    listed = ", ".join(f"{seen.count(c)} {c}" for c in order if c in seen)
    return f"expected {colour} {name}>={count}, found {right} {colour}; and {listed}"


def _wrong_position(
    found: Sequence[Detection], targets: Sequence[Detection] | None, name: str, relation: str, margin: float
) -> str | None:
    if targets is None:
        return f"no target for {name} to be {relation}"
    for one in found:
        for target in targets:
            true = relations(one.box, target.box, margin)
            if relation not in true:
                return f"expected {name} {relation} target, found {' and '.join(true)} target"
    return None


def official_detector() -> Any:
    """GenEval's own detector is not packaged: raises `DditError` with what it is and what to do."""
    raise DditError(
        "geneval: its detector is Mask2Former Swin-S of MMDetection (file "
        "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco_20220504_001756-c9d0c4f2.pth, 0.3 GB, "
        "SHA-256 c9d0c4f2...), which needs mmdet and mmcv and is not here; wrap one in an object with "
        "`detect` and `colours` (`clip_colours` is GenEval's classifier), or measure captions of the world "
        "with `WorldDetector`"
    )
