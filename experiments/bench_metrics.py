"""What metrics cost: seconds for N pictures, against the seconds that mini-flux needs to make them.

Both are measured here on the same machine, in wall-clock and in processor seconds. The verdict rests on
processor seconds: they hold on a machine that does something else as well.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ddit_eval import metrics
from ddit_eval.clock import machine
from ddit_eval.folders.pictures import picture_folder
from ddit_eval.metrics import sets
from ddit_eval.metrics.pictures.clip_network import image_of
from ddit_eval.metrics.sets.kinds import KINDS, Against
from ddit_eval.metrics.sets.resample import bootstrap
from ddit_eval.models.load import load_pipeline
from ddit_eval.system.files import write_json
from ddit_eval.world import caption, render, sample_scenes

SHARE = 0.1  # of the time that generation takes
STEPS = 24


def seconds(run: Callable[[], Any]) -> dict[str, float]:
    """Wall-clock and processor seconds of `run()`, all its threads together."""
    wall, busy = time.perf_counter(), time.process_time()
    run()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - busy}


def pictures_of(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Pictures of the world, the same with a little grain, and their captions."""
    scenes = sample_scenes(1, 0, count, "heldout")
    theirs = torch.from_numpy(render(scenes, side)).clamp(0, 1)
    noise = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    return (theirs + 0.02 * noise).clamp(0, 1), theirs, [caption(scene) for scene in scenes]


def measure(count: int, side: int, network: str) -> list[dict[str, Any]]:
    """A row for decoding, each metric of pictures that can run here, features, and each set metric."""
    ours, theirs, texts = pictures_of(count, side)
    rows: list[dict[str, Any]] = []

    def row(name: str, run: Callable[[], Any]) -> None:
        rows.append({"name": name, **seconds(run)})

    with tempfile.TemporaryDirectory() as place:
        for index, picture in enumerate(ours):
            image_of(picture).save(Path(place) / f"{index:05d}.png")
        row("decoding", lambda: picture_folder(Path(place)).check())
    for name in metrics.names("pictures"):
        metric = metrics.get(name)
        if metric.missing() is None:
            metric(ours[:2], theirs[:2], texts[:2])  # weights are loaded
            row(name, partial(metric, ours, theirs, texts))
    chosen = sets.network(network)
    sets.features(chosen, ours[:2])
    found: list[torch.Tensor] = []
    row(f"features of {network}", lambda: found.append(sets.features(chosen, ours)))
    # What is left of a family is its distance and 200 resamples, on features that all of them share.
    reference = sets.features(chosen, theirs)
    against = Against(reference, sets.statistics(reference))
    for name, kind in KINDS.items():
        row(name, lambda: bootstrap(kind.measure(found[0], against), count))  # noqa: B023 (run at once)
    return rows


def generation(side: int, batch: int) -> dict[str, float]:
    """Seconds that mini-flux needs for a picture: one batch of `batch` with the usual 24 steps."""
    pipe = load_pipeline("mini-flux")
    pipe.set_progress_bar_config(disable=True)
    prompts = pictures_of(batch, 16)[2]
    call = {"height": side, "width": side, "max_sequence_length": 32}
    pipe(prompts[:1], num_inference_steps=1, **call)
    found = seconds(lambda: pipe(prompts, num_inference_steps=STEPS, **call))
    return {name: value / batch for name, value in found.items()}


def bench(count: int, side: int, batch: int, network: str) -> dict[str, Any]:
    """All figures as JSON."""
    rows = measure(count, side, network)
    made = generation(side, batch)
    busy = sum(row["cpu_seconds"] for row in rows) / count
    share = busy / made["cpu_seconds"]
    return {
        "machine": machine.describe(torch.device("cpu")),
        "load_average": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "count": count,
        "side": side,
        "rows": rows,
        "generation_a_picture": {**made, "model": "mini-flux", "steps": STEPS, "batch": batch},
        "metrics_a_picture": {"cpu_seconds": busy},
        "share": share,
        "target": f"<= {SHARE:g}",
        "verdict": "met" if share <= SHARE else "missed",
        "note": "shares are of processor seconds; wall-clock seconds are of a machine under `load_average`",
    }


def show(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "seconds", "processor seconds", "for 1,000 pictures")
    for row in result["rows"]:
        busy = row["cpu_seconds"]
        table.add_row(
            row["name"], f"{row['seconds']:.2f}", f"{busy:.2f}", f"{1000 * busy / result['count']:.1f}"
        )
    console = Console()
    console.print(table)
    made = result["generation_a_picture"]["cpu_seconds"]
    console.print(
        f"{result['metrics_a_picture']['cpu_seconds']:.3f} s a picture against {made:.2f} s to make it: "
        f"{result['share']:.1%} (target {SHARE:.0%}: {result['verdict']})"
    )


def main(
    count: Annotated[int, typer.Option(min=8, help="Pictures that are measured.")] = 1000,
    side: Annotated[int, typer.Option(help="Their side in pixels.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that are generated for comparison.")] = 4,
    network: Annotated[str, typer.Option(help="Whose features the set metrics use.")] = "reader",
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("results/bench-metrics.json"),
) -> None:
    result = bench(count, side, batch, network)
    write_json(out, result)
    show(result)


if __name__ == "__main__":
    typer.run(main)
