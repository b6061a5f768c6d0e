"""Metrics of two folders of pictures or of films, whatever made them.

Samples are paired by file name (without its ending), prompts by a `.txt` of the same name beside a sample or
by one file of them; samples without a partner are compared as a set (of films: of all their frames).
Metrics that cannot run here, or that nothing was given for, are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeAlias

from pydantic import PlainSerializer
from torch import Tensor

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError
from ddit_eval.folders.films import FilmFolder, film_folder
from ddit_eval.folders.pictures import PictureFolder, picture_folder
from ddit_eval.folders.prompts import prompts_of
from ddit_eval.metrics import sets
from ddit_eval.metrics.films.frames import Film
from ddit_eval.metrics.films.metric import FilmMetric
from ddit_eval.metrics.metric import AnyMetric, Columns
from ddit_eval.metrics.sets.kinds import KINDS
from ddit_eval.schema.model import Interval, Result
from ddit_eval.schema.quality import Column, Distance

Folder: TypeAlias = PictureFolder | FilmFolder


Equivalence = Annotated[stats.Equivalence, PlainSerializer(stats.Equivalence.to_json)]


class FolderColumn(Column):
    """A metric's facts and its mean; with a reference of the same names `difference` (ours - theirs, paired)
    and, where the metric has a margin, the test whether the loss is within it."""

    interval: Interval
    difference: Interval | None = None
    equivalence: Equivalence | None = None


class Comparison(Result):
    """Every metric that applies; `skipped`: those that do not, with a reason each. Hashes are of the files;
    `size` is (H, W), of films (F, 3, H, W)."""

    pictures: str
    reference: str | None
    pictures_hash: str
    reference_hash: str | None
    n: int
    size: tuple[int, ...]
    columns: dict[str, FolderColumn]
    sets: tuple[Distance, ...]
    skipped: dict[str, str]


def opened(folder: Path) -> Folder:
    """A folder of films where it holds any, else of pictures. Raises `DditError` where it holds neither."""
    return film_folder(folder) or picture_folder(folder)


def compare(
    folder: Path,
    reference: str | Path | None = None,
    prompts: Path | None = None,
    only: Sequence[str] = (),
    network: str = "reader",
    cache: Path | None = None,
) -> Comparison:
    """Every applicable metric of a folder.

    reference: a folder, or a set of the world ("world:heldout:512:seed1:64px"). Samples of the same names
    are compared one to one as well; others as sets alone. only: these metrics (or set kinds), and a missing
    need is an error. network: whose features the set metrics use. cache: a folder that keeps features from
    one call to the next.
    """
    sets.network(network)  # what is not known is refused before anything is read
    ours = opened(folder)
    others = None if reference is None or str(reference).startswith("world:") else opened(Path(reference))
    world = None if reference is None or others else sets.picture_set(str(reference))
    if others and others.of != ours.of:
        raise DditError(f"{reference} holds {others.of} and {folder} {ours.of}: compare like with like")
    alone = _without_partner(ours, reference, others)
    theirs = None if alone else others
    texts = prompts_of(folder, list(ours.files), prompts)
    skipped: dict[str, str] = {}
    chosen = _applicable(ours, only, alone, texts, skipped)
    for one in (ours, theirs):
        if one:
            one.check()
    values, base = _measured(chosen, ours, theirs, texts)
    about = {name: facts for metric in chosen for name, facts in metric.describe().items()}
    columns = {name: _column(about[name], v, base.get(name)) for name, v in values.items()}
    distances: list[Distance] = []
    kinds = [kind for kind in KINDS if not only or kind in only]
    if kinds and reference is None:
        if only:
            raise DditError(f"{kinds[0]}: needs a reference set")
        skipped["set metrics"] = "need a reference set"
    elif kinds:
        try:
            few = None if only else skipped
            distances = _distances(ours, world or reference, others, theirs, network, kinds, cache, few)
        except DditError as error:
            if only:
                raise
            skipped["set metrics"] = str(error)
    return Comparison(
        pictures=_written(folder),
        reference=None if reference is None else _written(reference),
        pictures_hash=ours.hash,
        reference_hash=others.hash if others else distances[0].reference_hash if distances else None,
        n=len(ours.files),
        size=ours.size,
        columns=columns,
        sets=tuple(distances),
        skipped=skipped,
    )


def _written(path: str | Path) -> str:
    """A path as text, whatever its bytes."""
    return str(path).encode(errors="backslashreplace").decode()


def _without_partner(ours: Folder, reference: str | Path | None, others: Folder | None) -> str | None:
    """Why samples cannot be compared one to one with those of the reference; None where they can."""
    if reference is None:
        return "needs a reference folder"
    if others is None:
        return f"needs {ours.of} of the same names, and the reference is a set of the world"
    if alone := sorted(set(ours.files) ^ set(others.files)):
        return f"needs {ours.of} of the same names: {len(alone)} have no partner, the first is {alone[0]!r}"
    return None


def _applicable(
    ours: Folder,
    only: Sequence[str],
    alone: str | None,
    texts: Sequence[str] | None,
    skipped: dict[str, str],
) -> list[AnyMetric]:
    """The metrics that can be measured; the reasons of the others go into `skipped`, and are raised where
    those were asked for by name. Of films, metrics of pictures that need no reference are left to be asked
    for."""
    moving = ours.of == "films"
    pairs = [name for name in metrics.names("pictures") if metrics.get(name).needs == "reference"]
    every = [*metrics.names("films"), *pairs] if moving else metrics.names("pictures")
    chosen: list[AnyMetric] = []
    for name in [name for name in only or every if name not in KINDS]:
        metric = metrics.suited(name, moving)
        why = metric.missing()
        if metric.needs == "reference" and alone:
            why = alone
        elif metric.needs == "prompts" and texts is None:
            why = "needs prompts: a .txt beside each sample, or one file of lines"
        if why and only:
            raise DditError(f"{name}: {why.removeprefix(f'{name}: ')}")
        if why:
            skipped[name] = why.removeprefix(f"{name}: ")
        else:
            chosen.append(metric)
    return chosen


def _measured(
    chosen: Sequence[AnyMetric], ours: Folder, theirs: Folder | None, texts: Sequence[str] | None
) -> tuple[Columns, Columns]:
    """Values by column, one a sample: of ours, and of theirs where a metric compares with no reference."""
    values: Columns = {}
    base: Columns = {}
    done = 0
    for (pixels, fps), (other, rate) in zip(
        ours.batches(), theirs.batches() if theirs else repeat((None, None)), strict=bool(theirs)
    ):
        prompts = list(texts or ())[done : done + len(pixels)]
        done += len(pixels)
        for metric in chosen:
            _extend(values, _values(metric, pixels, other, prompts, fps))
            if other is not None and metric.needs != "reference":
                _extend(base, _values(metric, other, None, prompts, rate))
    return values, base


def _values(
    metric: AnyMetric, pixels: Tensor, other: Tensor | None, prompts: Sequence[str], fps: float | None
) -> Columns:
    if isinstance(metric, FilmMetric):  # one film, whose rate is known
        return {metric.name: [metric.value(Film(pixels[0], fps), *prompts)]}
    return metrics.measured(metric, pixels, other, prompts)


def _extend(columns: Columns, found: Columns) -> None:
    for name, values in found.items():
        columns.setdefault(name, []).extend(values)


def _column(
    about: Mapping[str, object], ours: Sequence[float], theirs: Sequence[float] | None
) -> FolderColumn:
    """A column; with the reference's values their paired difference, and the test of equivalence where the
    metric has a margin."""
    column = FolderColumn.model_validate({**about, "interval": stats.mean(ours)})
    if theirs is None:
        return column
    more: dict[str, object] = {"difference": stats.paired_difference(ours, theirs)}
    if column.margin is not None:
        more["equivalence"] = stats.equivalence(ours, theirs, column.margin, column.direction)
    return column.model_copy(update=more)


def _distances(
    ours: Folder,
    reference: sets.PictureSet | str | Path | None,
    others: Folder | None,
    theirs: Folder | None,
    network: str,
    kinds: Sequence[str],
    cache: Path | None,
    skipped: dict[str, str] | None,
) -> list[Distance]:
    """Set metrics on features that are computed once, and their extrapolation where pictures are many.

    Of films, all frames of ours against all of the reference's, resampled film by film.
    """
    pool, groups = ours.as_set()
    decoded = theirs or (others if isinstance(others, FilmFolder) else None)
    against = decoded.as_set()[0] if decoded else reference
    if not isinstance(against, sets.PictureSet):
        against = sets.picture_set(str(against))
    with TemporaryDirectory() as passing:
        kept = cache or Path(passing)
        rows = sets.compare(
            pool, against, network, families=kinds, cache=kept, groups=groups, skipped=skipped
        )
        # Below, subsets would be smaller than twice the features, where 1 / n is no straight line.
        if "frechet" in kinds and not groups and pool.n >= 4 * sets.network(network).dimension:
            rows.append(sets.infinity(pool, against, network, cache=kept))
    return rows
