"""Blocks as HTML. Figures and pictures travel inside the page as data: URIs."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from ddit_eval.report.blocks import (
    Block,
    Bullets,
    Claims,
    Code,
    Folded,
    Heading,
    Link,
    Picture,
    Table,
    Text,
    Viewer,
)
from ddit_eval.report.page.gallery import Gallery

NARROW = 640  # CSS pixels; wider figures scroll in their own box on a phone
SCREEN = 1.8  # CSS pixels for a figure's point: 7 pt of print are 12.6 px
# An interval in a cell is set smaller than its value.
_INTERVAL = re.compile(r"(\[[^\]]*\](?:, \d+ of \d+ infinite)?)")


def to_html(blocks: Sequence[Block], title: str, folder: Path | None = None) -> str:
    """One page. `folder`: where the paths of pictures start; one that is not there is named, not shown.

    Of a figure the SVG beside its PNG is taken where there is one.
    """
    body, links = [], []
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            links.append(f'<a href="#{_anchor(block.text)}">{escape(block.text)}</a>')
        body.append(_html(block, folder))
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        style=_asset("page.css"),
        script=_asset("page.js"),
        links="\n".join(links),
        body="\n".join(body),
    )


def _asset(name: str) -> str:
    return (resources.files("ddit_eval.report.page") / name).read_text(encoding="utf-8").rstrip()


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _html(block: Block, folder: Path | None) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{escape(text)}</h{level}>'
        case Text(text, strong):
            return _verdict(text) if strong else f"<p>{escape(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Picture(path, caption):
            return _figure(path, caption, folder)
        case Link(text, path):
            return f'<p><a href="{escape(path)}.html">{escape(text)}</a></p>'
        case Claims(items):
            return (
                '<div class="claims">'
                + "".join(
                    f'<article class="claim" data-found="{c.found}"><p class="found">{c.found}</p>'
                    f"<h3>{escape(c.claim)}</h3><p>{escape(c.evidence)}</p></article>"
                    for c in items
                )
                + "</div>"
            )
        case Code(text):
            return f'<pre tabindex="0"><code>{escape(text.rstrip())}</code></pre>'
        case Folded(summary, inner, opened):
            content = "\n".join(_html(b, folder) for b in inner)
            figures = ' class="figures"' if all(isinstance(b, Picture) for b in inner) else ""
            shown = " open" if opened else ""
            return (
                f"<details{shown}><summary>{escape(summary)}</summary><div{figures}>{content}</div></details>"
            )
        case Viewer(None, _):
            return (
                '<p class="absent">The pictures are not here: the folder of runs was not beside these '
                "results when the page was made.</p>"
            )
        case Viewer(gallery, _):
            assert gallery is not None
            return _viewer(gallery)
        case Table(head, rows):
            return _table(head, rows)


def _verdict(text: str) -> str:
    """The first sentence as the page's title, the rest below it."""
    first, *rest = re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)
    more = "".join(f'<p class="standing">{escape(part)}</p>' for part in rest)
    return f'<h1 class="verdict">{escape(first)}</h1>{more}'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(c)}</th>' for c in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{_cell(c)}</td>" for c in row[1:])}</tr>\n'
        for row in rows
    )
    table = f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table: {escape(head[0])}">{table}</div>'
    )


def _cell(text: str) -> str:
    return _INTERVAL.sub(r'<span class="interval">\1</span>', escape(text))


def _figure(path: str, caption: str, folder: Path | None) -> str:
    source = _data(folder, path)
    if source is None:
        return f'<p class="absent">The figure {escape(path)} is not here: {escape(caption)}</p>'
    size = f' width="{width}"' if (width := _width(folder, path)) else ""
    image = f'<img class="plot" src="{source}" alt="{escape(caption)}"{size} loading="lazy">'
    wide = ' class="wide" tabindex="0"' if width > NARROW else ""
    return f"<figure{wide}>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _data(folder: Path | None, path: str) -> str | None:
    """A figure as a data: URI."""
    png = (folder or Path()) / path
    for file, kind in ((png.with_name(f"{png.stem}.svg"), "svg+xml"), (png, "png")):
        if file.is_file():
            return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
    return None


def _width(folder: Path | None, path: str) -> int:
    """CSS pixels, from the SVG's own width: figures keep their sizes to one another, so that their texts are
    alike. 0 where there is no SVG."""
    file = ((folder or Path()) / path).with_suffix(".svg")
    if not file.is_file():
        return 0
    found = re.search(r'<svg[^>]* width="([0-9.]+)pt"', file.read_text(encoding="utf-8")[:2000])
    return round(float(found[1]) * SCREEN) if found else 0


def _viewer(gallery: Gallery) -> str:
    """The comparison, and below it the sheet of all pictures, which the script takes its pictures from:
    without scripts, and on paper, the sheet alone is shown."""
    base, *others = gallery.pictures
    options = "".join(f'<option value="{i + 1}">{escape(m)}</option>' for i, m in enumerate(others))
    prompts = "".join(f'<option value="{i}">{escape(p)}</option>' for i, p in enumerate(gallery.prompts))
    head = "".join(
        f'<th scope="col">{escape(m)}<span class="interval">{escape(gallery.notes.get(m, ""))}</span></th>'
        for m in gallery.pictures
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(prompt)}</th>'
        + "".join(
            f'<td><button type="button" data-method="{c}" data-prompt="{r}">'
            f'<img src="{uris[r]}" alt="{escape(m)}: {escape(prompt)}"></button></td>'
            for c, (m, uris) in enumerate(gallery.pictures.items())
        )
        + "</tr>\n"
        for r, prompt in enumerate(gallery.prompts)
    )
    note = (
        "Made smaller and compressed with loss for this page; metrics read the originals."
        if gallery.scaled
        else "Every pixel as it was made."
    )
    return Template(_asset("viewer.html")).substitute(
        base=escape(base),
        methods=options,
        prompts=prompts,
        head=head,
        rows=rows,
        note=note,
        look=("smooth" if gallery.scaled else "exact") + (" film" if gallery.frames > 1 else ""),
        frames=str(gallery.frames),
        last=str(gallery.frames - 1),
        fps=f"{gallery.fps:g}",
    )
