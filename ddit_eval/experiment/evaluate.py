"""Records to numbers: quality.json, samples.csv, traces.json, metrics.json. Reads records, no weights."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddit_eval import metrics, stats
from ddit_eval.ddit.policies import parse_policy
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.generate import records_of, size_of
from ddit_eval.experiment.prompts import load_prompts, prompts_hash
from ddit_eval.experiment.records import Store
from ddit_eval.metrics.metric import Columns
from ddit_eval.models.cost import calls_a_step, flops_of, tokens_of
from ddit_eval.system.files import check_writable, read_json, write_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from ddit_eval.metrics.damage import Sighting

Record = dict[str, Any]

FILMS = 6  # moving scenes that the film metrics' damage is measured on


@dataclass(frozen=True)
class Measured:
    """A method's samples, prompts in order: values by column, and what each cost."""

    values: Columns
    tokens: list[int]
    flops: list[int]


def pictures_of(store: Store, records: Sequence[Record]) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1], or of clips (N, F, 3, H, W), from 8-bit pictures."""
    import torch

    stack = np.stack([[np.asarray(frame) for frame in store.frames(record)] for record in records])
    pixels = torch.from_numpy(stack).movedim(-1, 2).float() / 255
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels


def row(method: str, records: Sequence[Record], ours: Measured, base: Measured) -> dict[str, Any]:
    """A row of quality.json; differences are paired with `base`, prompt by prompt."""
    policy = parse_policy(records[0]["policy"])
    traces = [[StepTrace.from_json(step) for step in record["trace"]] for record in records]
    scales = Counter(step.scale for trace in traces for step in trace)
    return {
        "method": method,
        "policy": records[0]["policy"],
        "family": policy.family,
        "colour": policy.colour,
        "control": policy.control,
        "steps": records[0]["steps"],
        "n": len(records),
        "token_ratio": sum(base.tokens) / sum(ours.tokens),
        "flop_ratio": sum(base.flops) / sum(ours.flops),
        "scale_share": {str(s): n / scales.total() for s, n in sorted(scales.items())},
        "verdict": policy.verdict(traces),
        "quality": {name: stats.mean(v).to_json() for name, v in ours.values.items()},
        "difference": {
            name: stats.paired_difference(v, base.values[name]).to_json()
            for name, v in ours.values.items()
            if not np.isinf(
                base.values[name]
            ).any()  # PSNR of the reference to itself: no difference to speak of
        },
    }


def damage(experiment: Experiment, pictures: Tensor, prompts: Sequence[str]) -> list[Record]:
    """Which metric sees which known damage to the reference's pictures; none with a single picture.

    Set metrics where the experiment has them; then the film metrics that can run here, on moving scenes of
    the world.
    """
    from ddit_eval.metrics.damage import sightings

    if len(pictures) < 2:
        return []
    if pictures.ndim == 5:
        return [one.to_json() for one in film_damage()]
    found = sightings([metrics.get(name) for name in experiment.metrics], pictures, prompts)
    if asked := experiment.sets:
        from ddit_eval.metrics.sets import picture_set
        from ddit_eval.metrics.sets.damage import set_sightings

        against = picture_set(asked.reference)
        for network in asked.networks:
            found += set_sightings(pictures, against, network, families=asked.families)
    return [one.to_json() for one in (*found, *film_damage())]


@lru_cache(maxsize=1)
def film_damage() -> tuple[Sighting, ...]:
    """Which film metric sees which damage: the same for all experiments, so once a process."""
    from ddit_eval.metrics.films.damage import moving_scenes, sightings

    found = [metrics.get(name) for name, why in metrics.missing("films").items() if why is None]
    # The captions of these scenes promise no motion, so adherence to it is not asked.
    asked = [metric for metric in found if metric.columns[0].role != "adherence"]
    return tuple(sightings(asked, *moving_scenes(FILMS)))


def set_distances(experiment: Experiment, pictures: Mapping[str, Tensor]) -> list[Record]:
    """A row for each method and set metric, as `set_rows` has it; none where the experiment asks for none."""
    asked = experiment.sets
    if asked is None:
        return []
    from ddit_eval.experiment.set_rows import set_rows

    return set_rows(
        pictures, experiment.reference, asked.reference, asked.networks, asked.families, asked.seed
    )


def traces_of(records: Sequence[Record]) -> dict[str, Any]:
    """Scales, signals and timesteps as prompts x steps; signals of steps that had none are null."""
    traces = [record["trace"] for record in records]
    names = sorted({name for trace in traces for step in trace for name in step["signals"] or ()}, key=int)
    return {
        "scales": [[step["scale"] for step in trace] for trace in traces],
        "timesteps": [[step["timestep"] for step in trace] for trace in traces],
        "signals": {
            name: [[(step["signals"] or {}).get(name) for step in trace] for trace in traces]
            for name in names
        }
        or None,
    }


def samples_csv(measured: Mapping[str, Measured], records: Mapping[str, Sequence[Record]]) -> str:
    """One line a sample; an empty cell is a value that the prompt does not ask for."""
    names = list(next(iter(measured.values())).values)
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "index", "prompt", "seed", *names, "tokens", "flops"])
    for method, m in measured.items():
        for i, record in enumerate(records[method]):
            values = [stats.number_to_json(m.values[name][i]) for name in names]
            head = [method, record["index"], record["prompt"], record["seed"]]
            writer.writerow([*head, *values, m.tokens[i], m.flops[i]])
    return buffer.getvalue()


def headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """A flat table for `dvc metrics show`: ratios and finite means by method."""
    return {
        row["method"]: {
            "token_ratio": row["token_ratio"],
            "flop_ratio": row["flop_ratio"],
            **{k: v["value"] for k, v in row["quality"].items() if isinstance(v["value"], float)},
        }
        for row in rows
    }


def evaluate(
    experiment: Experiment,
    runs: Path,
    results: Path,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,
) -> dict[str, Any]:
    """Measure the records in `runs` and write the result files to `results`; returns quality.json's content.

    Raises `DditError` where a metric is unknown or cannot run here, before any picture is read.
    """
    from ddit_eval.metrics.sets import tensor_set

    moving = len(size_of(experiment)) == 3
    chosen = [metrics.suited(name, moving) for name in experiment.metrics]
    if moving and experiment.sets:
        raise DditError("sets: set metrics compare pictures, and this experiment makes clips; leave it out")
    check_writable(results)
    store = Store(runs / "records")
    records = records_of(experiment, runs)
    table = {int(scale): n for scale, n in read_json(runs / "index.json")["flops"].items()}
    calls = calls_a_step(experiment)
    prompts = load_prompts(experiment.prompts)
    texts = [prompt.text for prompt in prompts]
    reference = pictures_of(store, records[experiment.reference])
    measured: dict[str, Measured] = {}
    pictures: dict[str, Tensor] = {}
    for done, (method, same) in enumerate(records.items()):
        progress(done, len(records), method)
        pictures[method] = pictures_of(store, same)
        measured[method] = Measured(
            metrics.measure(experiment.metrics, pictures[method], reference, texts),
            [tokens_of(record["trace"]) for record in same],
            [flops_of(record["trace"], table, calls) for record in same],
        )
    base = measured[experiment.reference]
    quality: dict[str, Any] = {
        "profile": experiment.profile,
        "model": experiment.model,
        "adapter": experiment.adapter,
        "n": len(prompts),
        "prompts_hash": prompts_hash(prompts),
        "reference": experiment.reference,
        "reference_hash": tensor_set(reference.flatten(0, -4)).hash,
        "rows": [row(name, records[name], m, base) for name, m in measured.items()],
        "metrics": {k: v for metric in chosen for k, v in metric.describe().items()},
        "damage": damage(experiment, reference, texts),
        "sets": set_distances(experiment, pictures),
    }
    write_json(results / "quality.json", quality)
    write_json(results / "metrics.json", headline(quality["rows"]))
    write_json(
        results / "traces.json", {"methods": {name: traces_of(same) for name, same in records.items()}}
    )
    write_text(results / "samples.csv", samples_csv(measured, records))
    progress(len(records), len(records), "done")
    return quality
