"""Does one adapter serve uniform steps and steps of several patch sizes? Its error on both.

    python experiments/tilings.py --adapter mini-flux --adapter runs/adapters/other

Errors are ||v_student - v_base||^2 / var(v_base), means over the timestep grid of the distillation, on
pictures that no training draws; the tilings are random regions, the same for every adapter, from mostly fine
to all coarse.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import torch
import typer

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.layout import Grid, Layout
from ddit_eval.ddit.regions import random_map, tile
from ddit_eval.system.files import write_json
from ddit_eval.training.distil import DistilConfig, load_config
from ddit_eval.training.distil.generated import PROBE
from ddit_eval.training.distil.measure import error_table
from ddit_eval.training.distil.run import Distiller


def random_tilings(grid: Grid, adapter: Adapter, count: int) -> list[Layout]:
    """Different tilings of several sizes, in ascending number of tokens."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Layout] = {}
    while len(found) < count:
        layout = tile(random_map(grid, adapter.scales, generator), adapter.scales, adapter.config.times)
        if len(layout.groups) > 1:
            found[layout.key] = layout
    return sorted(found.values(), key=lambda layout: layout.tokens)


def measure(run: Distiller, name: str, tilings: int, probes: int) -> dict[str, object]:
    """One adapter's row."""
    adapter = Adapter.from_pretrained(name).eval()
    side = run.config.source.sides[0]
    latents, prompts = run.draw(PROBE, probes, side)
    patch = family_of(run.transformer).patch
    frames = latents.shape[2] if latents.ndim == 5 else 1
    grid = (frames, latents.shape[-2] // patch, latents.shape[-1] // patch)
    layouts = random_tilings(grid, adapter, tilings)
    with attach(run.transformer, adapter=adapter) as handle:
        table = error_table(
            run.pipe,
            handle,
            latents,
            prompts,
            run.text_tokens,
            run.times,
            layouts=[*adapter.scales, *layouts],
        )
    errors = {key: statistics.fmean(values) for key, values in table.items()}
    mixed = [{"share": one.tokens / one.base_tokens, "error": errors[one]} for one in layouts]
    return {
        "adapter": name,
        "side": side,
        "samples": probes,
        "uniform": {str(scale): errors[scale] for scale in adapter.scales},
        "tilings": mixed,
        "tilings_mean": statistics.fmean(float(row["error"]) for row in mixed),
    }


def main(
    adapter: Annotated[list[str], typer.Option(help="Names or folders.")],
    plan: Annotated[Path, typer.Option(help="The distillation whose samples are used.")] = Path(
        "experiments/train/mini-flux-adapter.yaml"
    ),
    tilings: int = 12,
    probes: Annotated[int, typer.Option(help="Samples.")] = 32,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("results/tilings.json"),
) -> None:
    """Measure every adapter on the same samples, noise and tilings."""
    config: DistilConfig = load_config(plan)
    run = Distiller(config.model_copy(update={"probe_pictures": probes}))
    rows = [measure(run, name, tilings, probes) for name in adapter]
    write_json(out, {"model": config.model, "rows": rows})
    for row in rows:
        print(row["adapter"], row["uniform"], "tilings", row["tilings_mean"])


if __name__ == "__main__":
    typer.run(main)
