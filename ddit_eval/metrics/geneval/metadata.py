"""What a prompt of GenEval asks for: one line of `evaluation_metadata.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ddit_eval.errors import DditError

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Clause:
    """`count` objects of a class; perhaps of a colour, perhaps in `position`: (relation, index of the target
    among the clauses before)."""

    name: str
    count: int = 1
    colour: str | None = None
    position: tuple[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"class": self.name, "count": self.count}
        if self.colour is not None:
            out["color"] = self.colour
        if self.position is not None:
            out["position"] = list(self.position)
        return out


@dataclass(frozen=True)
class Metadata:
    """A prompt with the objects that must be there and those that must not."""

    tag: str
    prompt: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form of GenEval's files."""
        out: dict[str, Any] = {"tag": self.tag, "include": [c.to_json() for c in self.include]}
        if self.exclude:
            out["exclude"] = [c.to_json() for c in self.exclude]
        return out | {"prompt": self.prompt}


def parse_metadata(data: Mapping[str, Any], where: str = "metadata") -> Metadata:
    """A line of metadata, already read from JSON. Raises `DditError` naming what is wrong and `where`."""
    try:
        include = tuple(_clause(c) for c in data.get("include", ()))
        exclude = tuple(_clause(c) for c in data.get("exclude", ()))
        made = Metadata(str(data["tag"]), str(data["prompt"]), include, exclude)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DditError(
            f"{where} is no metadata of GenEval ({type(error).__name__}: {error}); a line has tag, prompt "
            "and include, a list of class and count with color or position where asked for"
        ) from error
    for index, clause in enumerate(made.include):
        if clause.position is None:
            continue
        relation, target = clause.position
        if relation not in RELATIONS or not 0 <= target < index:
            raise DditError(
                f"{where}: position {list(clause.position)} of {clause.name}; it must be one of "
                f"{', '.join(RELATIONS)} and the index of an earlier clause"
            )
    return made


def _clause(data: Mapping[str, Any]) -> Clause:
    count = int(data["count"])
    if count < 1:
        raise ValueError(f"count {count}")
    position = None
    if (given := data.get("position")) is not None:
        relation, target = given
        position = (str(relation), int(target))
    return Clause(str(data["class"]), count, data.get("color"), position)
