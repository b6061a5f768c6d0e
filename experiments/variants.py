"""Variants of an adapter compared by error per FLOP, each distilled for the same number of samples.

    python experiments/variants.py
    python experiments/variants.py --what time --base experiments/train/mini-wan-adapter.yaml

`residual`: blocks of the residual path. `time`: patches that span several latent frames beside those that
grow in space alone. Every variant begins with the same start values and learns uniform steps alone (`begin`
and `mixed` of the base file are left out).
Resumable: a variant that is finished is not trained again; so several processes may train one each (--only)
before the last call writes the comparison.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.adapter.detail import DetailConfig
from ddit_eval.errors import DditError
from ddit_eval.models.cost import flop_table, grid_of
from ddit_eval.system.files import write_json
from ddit_eval.training.distil import DistilConfig, distil, load_config

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "residual": {
        "none": {"detail": DetailConfig(kind="none")},
        "zero": {"detail": DetailConfig(kind="zero", width=96)},
        "analytic": {"detail": DetailConfig(kind="analytic")},
        "conv-48x2": {"detail": DetailConfig(kind="conv", width=48, depth=2, features=8)},
        "conv-96x3": {"detail": DetailConfig(kind="conv", width=96, depth=3, features=16)},
        "conv-128x3": {"detail": DetailConfig(kind="conv", width=128, depth=3, features=48)},
    },
    "time": {
        "space": {"time": {}},
        "time-2-at-4p": {"time": {4: 2}},
        "time-2": {"time": {2: 2, 4: 2}},
    },
}


def train(base: DistilConfig, config: DistilConfig, progress: Progress, name: str) -> None:
    """Distil one variant, unless that is done; what the base model generated for `base` is used again."""
    if (config.out / "errors.json").exists():
        return
    if (made := base.out / "generated").is_dir():
        shutil.copytree(made, config.out / "generated", dirs_exist_ok=True)
    task = progress.add_task(name, total=None)
    for row in distil(config):
        progress.update(task, total=row["of"], completed=row["step"])


def row(config: DistilConfig, name: str) -> dict[str, object]:
    """Mean error over the timestep grid, FLOPs of a call on one sample and what the residual block has of
    them, per scale."""
    record = json.loads((config.out / "errors.json").read_text())
    adapter = Adapter.from_pretrained(config.out)
    side, frames = config.source.sides[0], config.source.frames
    trained = {
        r["scale"]: sum(r["error"]) / len(r["error"]) for r in record["rows"] if r["stage"] == "trained"
    }
    calls = flop_table(config.model, config.out, side, side, frames)
    grid = grid_of(config.model, side, side, frames)
    detail = {s: adapter.flops(adapter.tile(grid, s))["detail"] for s in adapter.scales}
    return {
        "variant": name,
        "samples": config.pictures,
        "error": trained,
        "flops": calls,
        "detail_flops": detail,
    }


def main(
    base: Annotated[Path, typer.Option(help="The distillation that the variants are taken from.")] = Path(
        "experiments/train/mini-flux-adapter.yaml"
    ),
    what: Annotated[str, typer.Option(help=" or ".join(VARIANTS))] = "residual",
    samples: Annotated[int, typer.Option(help="Training samples of each variant.")] = 2000,
    out: Annotated[
        Path | None, typer.Option(help="JSON to write, results/variants-WHAT.json by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Train these and write nothing.")] = None,
) -> None:
    """Train every variant alike and write the comparison."""
    if what not in VARIANTS:
        raise DditError(f"--what {what!r} is unknown; it is {' or '.join(VARIANTS)}")
    rows, shared = [], load_config(base)
    with Progress() as progress:
        for name in only or VARIANTS[what]:
            changes = VARIANTS[what][name] | {"pictures": samples, "begin": None, "mixed": False}
            config = shared.model_copy(update=changes | {"out": Path("runs/variants") / what / name})
            train(shared, config, progress, name)
            rows.append(row(config, name))
    if not only:
        write_json(out or Path(f"results/variants-{what}.json"), rows)


if __name__ == "__main__":
    typer.run(main)
