"""What a profile's result files say, as typed data that report, figures and tracking share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ddit_eval import stats
from ddit_eval.ddit.adapter.places import WEIGHTS, find
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import belongs
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.records import Store
from ddit_eval.experiment.samples import read_samples
from ddit_eval.judging import families
from ddit_eval.judging.margins import Margin, Margins, check_margins, margin_of, margin_of_set, set_column
from ddit_eval.schema import Frontier, Index, Oracle, Quality, Record, Study, Timing, Traces, read
from ddit_eval.schema.distillation import FILE, Distillation
from ddit_eval.schema.distillation import load as load_errors
from ddit_eval.schema.model import ResultFile
from ddit_eval.schema.quality import Column, Row, SetRow
from ddit_eval.schema.record import Trace
from ddit_eval.schema.timing import Row as Timed
from ddit_eval.system.read import file_digest

Floats = stats.Floats
F = TypeVar("F", bound=ResultFile)


@dataclass(frozen=True)
class Results:
    """A profile; what has no file is None or empty.

    `samples[method][metric]`: one value a prompt, in the order of the prompts' numbers; `prompts`: their
    texts. `distillation`: the adapter's errors.json. `margins`: which losses count as none.
    """

    quality: Quality
    timing: Timing | None = None
    traces: Mapping[str, Trace] = field(default_factory=dict)
    study: Study | None = None
    distillation: Distillation | None = None
    oracle: Oracle | None = None
    frontier: Frontier | None = None
    samples: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    margins: Margins = "own"

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.quality.rows

    @property
    def reference(self) -> Row:
        return self.row(self.quality.reference)

    def row(self, method: str) -> Row:
        return self.quality.row(method)

    def family(self, row: Row) -> str:
        """What a row does to be faster, see `judging.families`."""
        return families.family_of(row, self.reference)

    def control(self, row: Row) -> str | None:
        """The kind of control that a row is; with something beside its policy it is none."""
        return None if families.combined(row, self.reference) else row.control

    def of_family(self, family: str) -> list[Row]:
        return [row for row in self.rows if self.family(row) == family]

    def accelerated(self) -> list[Row]:
        """The rows that cost less than the base."""
        return [r for r in self.rows if families.accelerated(r, self.reference)]

    @property
    def bad_clock(self) -> str | None:
        """Why the times decide nothing; None where they do, or where there are none."""
        return self.timing.bad if self.timing else None

    @property
    def equally(self) -> str:
        """What is held equal in comparisons."""
        return "at equal FLOPs" if self.bad_clock else "at equal time"

    def timed(self, method: str) -> Timed | None:
        return self.timing.row(method) if self.timing and not self.bad_clock else None

    def speed(self, row: Row) -> stats.Interval | None:
        """Measured speed-up over the base; by a bad clock the FLOP ratio. None where the method was not
        timed, or does what FLOPs do not count: they do not stand in for that."""
        if row.method == self.quality.reference:
            return stats.Interval(1.0, 1.0, 1.0)
        if self.bad_clock and families.has(row, "setup"):
            return None
        if self.bad_clock:
            return stats.Interval(row.flop_ratio, row.flop_ratio, row.flop_ratio, row.n)
        timed = self.timed(row.method)
        return timed.speedup if timed else None

    def values(self, method: str, metric: str) -> Floats | None:
        """One value a prompt, None where they were not measured."""
        return self.samples.get(method, {}).get(metric)

    def column(self, metric: str) -> Column:
        return self.quality.metrics.get(metric) or set_column(self.quality, metric)

    def margin(self, metric: str) -> Margin | None:
        """The loss of it that still counts as none; None where any counts, or where nothing can tell."""
        if metric in self.quality.metrics:
            base = self.values(self.quality.reference, metric)
            return margin_of(self.margins, metric, self.column(metric), base)
        row = self.set_row(self.quality.reference, metric)
        return margin_of_set(self.margins, metric, row.interval.value) if row else None

    def set_row(self, method: str, metric: str) -> SetRow | None:
        """The distance of a method's pictures as a set."""
        return next((r for r in self.quality.sets if (r.method, r.metric) == (method, metric)), None)

    def of_role(self, role: str) -> list[str]:
        """The metrics of a role, the first one decides."""
        metrics = self.quality.metrics
        return sorted((m for m in metrics if metrics[m].role == role), key=lambda m: metrics[m].rank)

    def deciding(self) -> list[str]:
        """The metrics that decide a verdict: fidelity first, then adherence, as far as they were
        measured."""
        chosen = [m for role in ("fidelity", "adherence") for m in self.of_role(role)[:1]]
        return chosen or list(self.quality.metrics)[:1]


def load(folder: Path, experiment: Experiment | None = None) -> Results:
    """Read results/<profile>; quality.json and what was written with it must be there, others may be missing.

    Raises `DditError` that names the command which makes a file anew, where an older version made it, or
    where files do not belong together or to the `experiment`.
    """

    def optional(name: str, model: type[F]) -> F | None:
        return read(folder / name, model) if os.path.lexists(folder / name) else None

    quality = read(folder / "quality.json", Quality)
    timing, study, oracle = (
        optional("timing.json", Timing), optional("study.json", Study), optional("oracle.json", Oracle),
    )  # fmt: skip
    frontier = optional("frontier.json", Frontier)
    belongs(quality, experiment=experiment, timing=timing, study=study, oracle=oracle)
    try:
        belongs(quality, experiment=experiment, frontier=frontier)
    except DditError as error:  # it takes half an hour, so no report waits for it
        warnings.warn(f"the report is without the best ways: {error}", stacklevel=2)
        frontier = None
    _as_written(folder, quality, ("samples.csv", "traces.json"))
    if timing:
        _as_written(folder, timing, timing.files)
    margins = experiment.margins if experiment else "own"
    check_margins(margins, quality)
    samples, prompts = read_samples(folder / "samples.csv", quality)
    return Results(
        quality=quality,
        timing=timing,
        traces=read(folder / "traces.json", Traces).methods,
        study=study,
        distillation=_errors(folder, quality.adapter),
        oracle=oracle,
        frontier=frontier,
        samples=samples,
        prompts=prompts,
        margins=margins,
    )


def _as_written(folder: Path, stage: Quality | Timing, names: Iterable[str]) -> None:
    for name in names:
        if not (folder / name).exists() or file_digest(folder / name) != stage.files.get(name):
            what = f"{folder / name} is missing, or not as it was written with {stage.file}"
            raise DditError(f"{what}; make both anew: {stage.made_by}")


def read_records(folder: Path | None) -> dict[str, list[Record]]:
    """The records in force of runs/<profile> by method, prompts in order, `image` with its folder; empty
    where there are none. One that is not there is left out; one that is damaged is refused."""
    if folder is None or not os.path.lexists(folder / "index.json"):
        return {}
    records: dict[str, list[Record]] = {}
    store = Store(folder / "records")
    for method, keys in read(folder / "index.json", Index).methods.items():
        for record in filter(None, map(store.load, keys)):
            image = str(store.folder / record.image)
            records.setdefault(method, []).append(record.model_copy(update={"image": image}))
        records.get(method, []).sort(key=lambda record: record.index)
    return records


def shared_pictures(
    records: Mapping[str, Sequence[Record]], methods: Sequence[str]
) -> list[tuple[str, dict[str, Path]]]:
    """Of every prompt of which all methods have a picture its text and the pictures' files."""
    files = {m: {r.index: Path(r.image) for r in records[m] if Path(r.image).is_file()} for m in methods}
    texts = {r.index: r.prompt for r in records[methods[0]]}
    shared = [index for index in sorted(texts) if all(index in files[m] for m in methods)]
    return [(texts[index], {m: files[m][index] for m in methods}) for index in shared]


def _errors(folder: Path, adapter: str | None) -> Distillation | None:
    """The distillation error beside the results, or that travels with a shipped adapter."""
    home = find(adapter) if adapter else None
    home = home if home is not None and (home / WEIGHTS).is_file() else None
    file = folder / "distillation.json"
    if not os.path.lexists(file):
        if home is None or home.name != adapter:
            return None
        file = home / FILE
    return load_errors(file, home)
