"""Metrics of two folders of pictures, whatever made them.

Pictures are paired by file name (without its ending), prompts by a `.txt` of the same name beside a
picture or by the lines of one file. Metrics that cannot run here, or that nothing was given for, are
skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder by name, in the order of the names; (N, 3, H, W) float in [0, 1]."""

    folder: Path
    names: list[str]
    stack: Tensor


def files_of(folder: Path) -> dict[str, Path]:
    """Picture files by name without ending, in the order of the names. Raises `DditError` if there are none
    or if two have the same name."""
    if not folder.is_dir():
        raise DditError(f"there is no folder {folder}; give a folder of pictures")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)
    if not files:
        raise DditError(f"{folder} holds no pictures ({', '.join(ENDINGS)})")
    named: dict[str, Path] = {}
    for path in files:
        if path.stem in named:
            raise DditError(f"{named[path.stem]} and {path.name} have the same name; keep one of them")
        named[path.stem] = path
    return named


def load(folder: Path, names: Sequence[str] | None = None) -> Pictures:
    """The pictures of a folder, or those of `names`; all must have one size."""
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    files = files_of(folder)
    wanted = list(files) if names is None else list(names)
    arrays = []
    for name in wanted:
        try:
            with Image.open(files[name]) as image:
                arrays.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise DditError(f"{files[name]} cannot be read ({error}); replace it or take it away") from error
        if arrays[-1].shape != arrays[0].shape:
            sizes = ["{1} x {0}".format(*a.shape) for a in (arrays[-1], arrays[0])]
            raise DditError(
                f"{files[name]} is {sizes[0]} and {wanted[0]} is {sizes[1]}; bring them to one size"
            )
    return Pictures(folder, wanted, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255)


def prompts_of(folder: Path, names: Sequence[str], file: Path | None) -> list[str] | None:
    """One prompt a picture: the lines of `file`, or the .txt beside each; None where there are none."""
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise DditError(f"cannot read {file}: {error}") from error
        lines = [line for line in lines if line]
        if len(lines) != len(names):
            raise DditError(
                f"{file} has {len(lines)} prompts for {len(names)} pictures: one a line, in order"
            )
        return lines
    texts = [folder / f"{name}.txt" for name in names]
    there = [path for path in texts if path.is_file()]
    if not there:
        return None
    missing = next((path for path in texts if not path.is_file()), None)
    if missing:
        raise DditError(f"{len(there)} pictures have a prompt, but {missing} is missing")
    return [path.read_text(encoding="utf-8").strip() for path in texts]


def compare(
    pictures: Path, reference: Path | None = None, prompts: Path | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Every applicable metric of `pictures`, as JSON: `columns` by name with interval, n and network, and
    `skipped` with a reason each. `only`: the metrics that must run; a missing need is then an error."""
    names = list(files_of(pictures))
    theirs: Pictures | None = None
    if reference is not None:
        alone = sorted(set(names) ^ set(files_of(reference)))
        if alone:
            raise DditError(
                f"{pictures} and {reference} are paired by file name, but {len(alone)} have no partner, "
                f"the first is {alone[0]!r}"
            )
        theirs = load(reference, names)
    ours, texts = load(pictures, names), prompts_of(pictures, names, prompts)
    columns: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in only or metrics.names():
        metric = metrics.get(name)
        why = metric.missing()
        if metric.needs == "reference" and theirs is None:
            why = "needs a reference folder"
        elif metric.needs == "prompts" and texts is None:
            why = "needs prompts: a .txt beside each picture, or one file of lines"
        why = why and why.removeprefix(f"{name}: ")
        if why and only:
            raise DditError(f"{name}: {why}")
        if why:
            skipped[name] = why
            continue
        values = metric(ours.stack, theirs.stack if theirs else None, texts or ())
        about = metric.describe()
        columns |= {k: stats.mean(v).to_json() | about[k] for k, v in values.items()}
    return {
        "pictures": str(pictures),
        "reference": None if reference is None else str(reference),
        "n": len(names),
        "size": list(ours.stack.shape[-2:]),
        "columns": columns,
        "skipped": skipped,
    }
