"""Metrics of two folders of pictures, whatever made them.

Pictures are paired by file name (without its ending), prompts by a `.txt` of the same name beside a
picture or by the lines of one file; pictures without a partner are compared as a set. Metrics that
cannot run here, or that nothing was given for, are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures.read import SUFFIXES, read_levels

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.metrics.sets import PictureSet
    from ddit_eval.metrics.sets.comparison import Family


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
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise DditError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
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

    files = files_of(folder)
    wanted = list(files) if names is None else list(names)
    arrays = []
    for name in wanted:
        arrays.append(read_levels(files[name]))
        if arrays[-1].shape != arrays[0].shape:
            sizes = ["{1} x {0}".format(*a.shape) for a in (arrays[-1], arrays[0])]
            raise DditError(
                f"{files[name]} is {sizes[0]} and {wanted[0]} is {sizes[1]}; bring them to one size"
            )
    return Pictures(folder, wanted, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255)


def as_set(loaded: Pictures) -> PictureSet:
    """The set of pictures that are decoded already; its hash is that of their files, as in `folder_set`."""
    from ddit_eval.metrics.sets import folder_set

    files = files_of(loaded.folder)
    found = folder_set(loaded.folder, [files[name].name for name in loaded.names])
    return replace(found, pictures=lambda: iter(loaded.stack.split(32)))


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
    pictures: Path,
    reference: str | Path | None = None,
    prompts: Path | None = None,
    only: Sequence[str] = (),
    network: str = "reader",
    cache: Path | None = None,
) -> dict[str, Any]:
    """Every applicable metric of `pictures`, as JSON. A folder of videos goes to `video_folders`.

    reference: a folder, or a set of the world ("world:heldout:512:seed1:64px"). Pictures of the same names
    are compared one to one as well; others as sets alone. only: these metrics (or set families), and a
    missing need is an error. network: whose features the set metrics use. cache: a folder that keeps features
    from one call to the next.

    Returns `columns` by name with interval, n and network, and with pictures of the same names `difference`
    (ours - theirs, paired) and `equivalence` (is the loss within the metric's margin?); `sets`, a row a set
    metric; `skipped` with a reason each; and the hash of both folders' files.
    """
    from ddit_eval.folders.films import compare_videos, videos_of
    from ddit_eval.metrics.sets import comparison

    if videos_of(pictures):
        return compare_videos(pictures, reference, prompts, only, network, cache)
    single = [name for name in only or metrics.names() if name not in comparison.FAMILIES]
    families = [f for f in comparison.FAMILIES if not only or f in only]
    names = list(files_of(pictures))
    alone = _without_partner(names, reference)
    ours, texts = load(pictures, names), prompts_of(pictures, names, prompts)
    theirs = None if reference is None or alone else load(Path(reference), names)
    columns: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in single:
        metric = metrics.get(name)
        why = metric.missing()
        if metric.needs == "reference" and theirs is None:
            why = alone or "needs a reference folder"
        elif metric.needs == "prompts" and texts is None:
            why = "needs prompts: a .txt beside each picture, or one file of lines"
        if why:
            why = why.removeprefix(f"{name}: ")
            if only:
                raise DditError(f"{name}: {why}")
            skipped[name] = why
            continue
        values = metric(ours.stack, theirs.stack if theirs else None, texts or ())
        about = metric.describe()
        columns |= {k: stats.mean(v).to_json() | about[k] for k, v in values.items()}
        if theirs and metric.needs != "reference":
            for k, v in metric(theirs.stack, None, texts or ()).items():
                columns[k] |= against_theirs(k, values[k], v, about[k]["direction"])

    def measured(wanted: Sequence[Family], given: str) -> list[dict[str, Any]]:
        from ddit_eval.metrics.sets import picture_set

        against = as_set(theirs) if theirs else picture_set(given)
        return distances(as_set(ours), against, network, wanted, cache)

    sets = sets_or_reason(
        families, None if reference is None else str(reference), measured, bool(only), skipped
    )
    return {
        "pictures": str(pictures),
        "reference": None if reference is None else str(reference),
        "pictures_hash": as_set(ours).hash,
        "reference_hash": as_set(theirs).hash if theirs else sets[0]["reference_hash"] if sets else None,
        "n": len(names),
        "size": list(ours.stack.shape[-2:]),
        "columns": columns,
        "sets": sets,
        "skipped": skipped,
    }


def against_theirs(
    name: str, ours: Sequence[float], theirs: Sequence[float], direction: stats.Direction
) -> dict[str, Any]:
    """The paired difference of a column, and the test of equivalence where the metric has a margin."""
    from ddit_eval.judging.equivalence import margin

    out: dict[str, Any] = {"difference": stats.paired_difference(ours, theirs).to_json()}
    if (within := margin(name)) is not None:
        out["equivalence"] = stats.equivalence(ours, theirs, within, direction).to_json()
    return out


def sets_or_reason(
    families: Sequence[Family],
    reference: str | None,
    measured: Callable[[Sequence[Family], str], list[dict[str, Any]]],
    asked: bool,
    skipped: dict[str, str],
) -> list[dict[str, Any]]:
    """The set metrics of `families`; where there can be none, the reason goes into `skipped`. Metrics that
    were `asked` for by name raise it as a `DditError` instead."""
    if not families:
        return []
    if reference is None:
        if asked:
            raise DditError(f"{families[0]}: needs a reference set")
        skipped["set metrics"] = "need a reference set"
        return []
    try:
        return measured(families, reference)
    except DditError as error:
        if asked:
            raise
        skipped["set metrics"] = str(error)
        return []


def distances(
    ours: PictureSet,
    theirs: PictureSet,
    network: str,
    families: Sequence[Family],
    cache: Path | None = None,
    groups: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Set metrics on features that are computed once, and their extrapolation where pictures are many.

    `groups`: the video of each picture, where pictures are frames; videos are then what is resampled.
    """
    from ddit_eval.metrics import sets

    with TemporaryDirectory() as passing:
        kept = cache or Path(passing)
        rows = sets.compare(ours, theirs, network, families=families, cache=kept, groups=groups)
        # Below, subsets would be smaller than twice the features, where 1 / n is no straight line.
        if "frechet" in families and not groups and ours.n >= 4 * sets.network(network).dimension:
            rows.append(sets.infinity(ours, theirs, network, cache=kept))
    return [row.to_json() for row in rows]


def _without_partner(names: Sequence[str], reference: str | Path | None) -> str | None:
    """Why pictures cannot be compared one to one with those of the reference; None where they can."""
    if reference is None:
        return None
    if str(reference).startswith("world:"):
        return "needs pictures of the same names, and the reference is a set of the world"
    alone = sorted(set(names) ^ set(files_of(Path(reference))))
    if not alone:
        return None
    return f"needs pictures of the same names: {len(alone)} have no partner, the first is {alone[0]!r}"
