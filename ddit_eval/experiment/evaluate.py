"""Records to numbers: quality.json, samples.csv, traces.json, metrics.json. Reads records, no weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval import metrics, stats
from ddit_eval.ddit.policies import parse_policy
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import asked as asked_of
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.generate import records_of
from ddit_eval.experiment.prompts import prompts_hash
from ddit_eval.experiment.records import Store, pixels_of
from ddit_eval.experiment.samples import to_csv
from ddit_eval.experiment.setting import Setting
from ddit_eval.metrics.metric import Columns
from ddit_eval.models.cost import flops_of, tokens_of
from ddit_eval.schema import Index, Quality, Record, Traces, read, write
from ddit_eval.schema.quality import Column, Row, Sighting
from ddit_eval.schema.record import Trace
from ddit_eval.system.files import check_writable, sweep, write_json, write_text
from ddit_eval.system.progress import Progress, quiet
from ddit_eval.system.read import file_digest

if TYPE_CHECKING:
    from torch import Tensor

FILMS = 6  # moving scenes that the film metrics' damage is measured on


@dataclass(frozen=True)
class Values:
    """A method's samples, prompts in order: values by column, and what each cost."""

    values: Columns
    tokens: list[int]
    flops: list[int]


def pictures_of(store: Store, records: Sequence[Record]) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1], or of clips (N, F, 3, H, W), from 8-bit pictures."""
    return pixels_of(store.levels(record) for record in records)


def row(records: Sequence[Record], prompts: str, ours: Values, base: Values) -> Row:
    """A row of quality.json; differences are paired with `base`, prompt by prompt. `prompts`: their hash."""
    first = records[0]
    policy = parse_policy(first.policy)
    scales = Counter(step.scale for record in records for step in record.trace)
    return Row(
        method=first.method,
        of=first.of(prompts),
        policy=first.policy,
        family=policy.family,
        colour=policy.colour,
        control=policy.control,
        steps=first.steps,
        n=len(records),
        token_ratio=sum(base.tokens) / sum(ours.tokens),
        flop_ratio=sum(base.flops) / sum(ours.flops),
        scale_share={scale: n / scales.total() for scale, n in sorted(scales.items())},
        verdict=policy.verdict([record.trace for record in records]),
        quality={name: stats.mean(v) for name, v in ours.values.items()},
        difference={
            name: stats.paired_difference(v, base.values[name])
            for name, v in ours.values.items()
            # PSNR of the reference to itself: no difference to speak of.
            if not np.isinf(base.values[name]).any()
        },
    )


def damage(experiment: Experiment, pictures: Tensor, prompts: Sequence[str]) -> tuple[Sighting, ...]:
    """Which metric sees which known damage to the reference's pictures; none with a single picture.

    Set metrics where the experiment has them; then the film metrics that can run here, on moving scenes of
    the world.
    """
    from ddit_eval.metrics.damage import sightings

    if len(pictures) < 2:
        return ()
    if pictures.ndim == 5:
        return film_damage()
    found = sightings([metrics.get(name) for name in experiment.metrics], pictures, prompts)
    if asked := experiment.sets:
        from ddit_eval.metrics.sets import picture_set
        from ddit_eval.metrics.sets.damage import set_sightings

        against = picture_set(asked.reference)
        for network in asked.networks:
            found += set_sightings(pictures, against, network, families=asked.families)
    return (*found, *film_damage())


@lru_cache(maxsize=1)
def film_damage() -> tuple[Sighting, ...]:
    """Which film metric sees which damage: the same for all experiments, so once a process."""
    from ddit_eval.metrics.films.damage import moving_scenes, sightings

    here = [metrics.get(name) for name, why in metrics.missing("films").items() if why is None]
    # The captions of these scenes promise no motion, so adherence to it is not asked.
    asked = [metric for metric in here if metric.columns[0].role != "adherence"]
    return tuple(sightings(asked, *moving_scenes(FILMS)))


def traces_of(records: Sequence[Record]) -> Trace:
    """Scales, signals and timesteps as prompts x steps; signals of steps that had none are None."""
    traces = [record.trace for record in records]
    scales = sorted({scale for trace in traces for step in trace for scale in step.signals or ()})
    signals = {
        scale: tuple(tuple((step.signals or {}).get(scale) for step in trace) for trace in traces)
        for scale in scales
    }
    return Trace(
        scales=tuple(tuple(step.scale for step in trace) for trace in traces),
        timesteps=tuple(tuple(step.timestep for step in trace) for trace in traces),
        signals=signals or None,
    )


def samples_of(
    measured: Mapping[str, Values], records: Mapping[str, Sequence[Record]]
) -> Iterator[list[Any]]:
    """The rows of samples.csv."""
    for method, m in measured.items():
        for i, record in enumerate(records[method]):
            values = [stats.number_to_json(same[i]) for same in m.values.values()]
            yield [method, record.index, record.prompt, record.seed, *values, m.tokens[i], m.flops[i]]


def headline(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """A flat table for `dvc metrics show`: ratios and finite means by method."""
    return {
        row.method: {
            "token_ratio": row.token_ratio,
            "flop_ratio": row.flop_ratio,
            **{k: v.value for k, v in row.quality.items() if math.isfinite(v.value)},
        }
        for row in rows
    }


def evaluate(
    experiment: Experiment,
    runs: Path,
    results: Path,
    *,
    sights: bool = True,
    progress: Progress = quiet,
) -> Quality:
    """Measure the records in `runs` and write the result files to `results`; returns quality.json's content.
    sights: whether to measure which metric sees which damage, too.

    Raises `DditError` where a metric is unknown or cannot run here, before any picture is read.
    """
    from ddit_eval.experiment.set_rows import set_rows
    from ddit_eval.metrics.sets import tensor_set

    asked = experiment.sets
    setting = Setting(experiment)
    moving = len(setting.size) == 3
    chosen = [metrics.suited(name, moving) for name in experiment.metrics]
    if moving and asked:
        raise DditError("sets: set metrics compare pictures, and this experiment makes clips; leave it out")
    check_writable(results)
    sweep(results)
    store = Store(runs / "records")
    records = records_of(experiment, runs)
    table = read(runs / "index.json", Index).flops
    texts = [prompt.text for prompt in setting.prompts]
    reference = pictures_of(store, records[experiment.reference])
    measured: dict[str, Values] = {}
    pictures: dict[str, Tensor] = {}
    for done, (method, same) in enumerate(records.items()):
        progress(done, len(records), method)
        pictures[method] = pictures_of(store, same)
        measured[method] = Values(
            metrics.measure(experiment.metrics, pictures[method], reference, texts),
            [tokens_of(record.trace) for record in same],
            [flops_of(record.trace, table, setting.calls) for record in same],
        )
    base, prompts = measured[experiment.reference], prompts_hash(setting.prompts)
    write_text(results / "samples.csv", to_csv([*base.values], samples_of(measured, records)))
    write(results / "traces.json", Traces(methods={name: traces_of(same) for name, same in records.items()}))
    skipped: dict[str, str] = {}
    quality = Quality(
        asked=asked_of(experiment, Quality),
        files={name: file_digest(results / name) for name in ("samples.csv", "traces.json")},
        profile=experiment.profile,
        model=experiment.model,
        adapter=experiment.adapter,
        n=len(texts),
        prompts_hash=prompts,
        reference=experiment.reference,
        reference_hash=tensor_set(reference.flatten(0, -4)).hash,
        rows=tuple(row(records[name], prompts, values, base) for name, values in measured.items()),
        metrics={
            name: Column.model_validate(about)
            for metric in chosen
            for name, about in metric.describe().items()
        },
        damage=damage(experiment, reference, texts) if sights else (),
        sets=tuple(set_rows(pictures, experiment.reference, **dict(asked), skipped=skipped)) if asked else (),
        skipped=skipped,
    )
    write_json(results / "metrics.json", headline(quality.rows))
    write(results / "quality.json", quality)  # last: it holds for the others
    progress(len(records), len(records), "done")
    return quality
