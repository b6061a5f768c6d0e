"""Blocks as HTML, by the templates beside this file. Figures and pictures travel inside the page."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from ddit_eval.report.blocks import Block

NARROW = 640  # CSS pixels; wider figures scroll in their own box on a phone
SCREEN = 1.8  # CSS pixels for a figure's point: 7 pt of print are 12.6 px
# An interval in a cell is set smaller than its value.
_INTERVAL = re.compile(r"(\[[^\]]*\](?:, \d+ of \d+ infinite)?)")
_CODE = re.compile(r"`([^`\n]+)`")


def to_html(blocks: Sequence[Block], title: str, folder: Path | None = None) -> str:
    """One page. `folder`: where the paths of pictures start; one that is not there is named, not shown."""
    pages = Environment(
        loader=PackageLoader("ddit_eval.report", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.filters.update(
        anchor=_anchor, cell=_cell, prose=_prose, sentences=_sentences, kind=lambda b: type(b).__name__
    )
    pages.globals.update(figure=partial(_figure, folder or Path()), narrow=NARROW)
    return pages.get_template("page.html").render(title=title, blocks=blocks)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _cell(text: str) -> Markup:
    return Markup(_INTERVAL.sub(r'<span class="interval">\1</span>', str(escape(text))))


def _prose(text: str) -> Markup:
    """Text between backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _sentences(text: str) -> list[str]:
    """The first sentence, and the rest where there is more."""
    return re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)


def _figure(folder: Path, path: str) -> tuple[str, int] | None:
    """A figure as a data: URI, and its width in CSS pixels: figures keep their sizes to one another, so that
    their texts are alike. 0 where the file does not tell (a film). None where there is no file."""
    file = folder / path
    if not file.is_file():
        return None
    with Image.open(file) as image:
        dpi = image.info.get("dpi", (0, 0))[0]
        width = round(image.width / dpi * 72 * SCREEN) if dpi else 0
        kind = str(image.format).lower()
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}", width
