"""A document as plain blocks. Markdown is written here, the HTML page by `ddit_eval.report.page`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddit_eval.judging.paper_claims import Claim
from ddit_eval.report.gallery import Gallery


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells are text; the first column is aligned left, the others right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    path: str  # relative to the document
    caption: str


@dataclass(frozen=True)
class Link:
    """To another document that is written beside this one; `path` relative and without its ending."""

    text: str
    path: str


@dataclass(frozen=True)
class Claims:
    items: Sequence[Claim]


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Folded:
    """Blocks that the page shows on demand and Markdown leaves out."""

    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Viewer:
    """The pictures to compare; `still` is what Markdown, which cannot switch pictures, shows instead."""

    gallery: Gallery | None
    still: Picture | None = None


Block = Heading | Text | Bullets | Table | Picture | Link | Claims | Code | Folded | Viewer


def matrix(
    corner: str, heads: Mapping[str, str], cells: Mapping[tuple[str, str], str], titles: Mapping[str, str]
) -> Table:
    """Cells by the names of their row and column. `heads`: the columns in order, by name; `titles`: of rows
    that are written otherwise than they are named."""
    names = dict.fromkeys(row for row, _ in cells)
    rows = [[titles.get(row, row), *(cells.get((row, c), "–") for c in heads)] for row in names]
    return Table([corner, *heads.values()], rows)


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(text for block in blocks if (text := _markdown(block))) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text, strong):
            return f"**{text}**" if strong else text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Picture(path, caption):
            return f"![{caption}]({path})"
        case Link(text, path):
            return f"[{text}]({path}.md)"
        case Claims(items):
            return "\n".join(f"- **{c.found}**: {c.claim} {c.evidence}" for c in items)
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}yaml\n{text.rstrip()}\n{fence}"
        case Folded():
            return ""
        case Viewer(_, still):
            return _markdown(still) if still else ""
        case Table(head, rows):
            rule = [":--"] + ["--:"] * (len(head) - 1)
            return "\n".join(f"| {' | '.join(_cell(c) for c in row)} |" for row in (head, rule, *rows))


def _cell(text: str) -> str:
    """Text that is shown as it is: a backslash before what Markdown would read, a space for a line end."""
    return re.sub(r"[\\`*|]|<(?=[A-Za-z/!?])", r"\\\g<0>", re.sub(r"\r\n|\n|\r", " ", text))
