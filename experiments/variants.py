"""Residual blocks compared by error per FLOP: each variant distilled for the same number of pictures.

    python experiments/variants.py --pictures 2000 --out results/variants.json

Every variant begins with the same start values (`begin` of the base file is left out). Resumable: a variant
that is finished is not trained again; so several processes may train one each (--only) before the last
call writes the comparison.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ddit_eval.distil import DistilConfig, distil, load_config
from ddit_eval.patching.adapter import Adapter
from ddit_eval.patching.detail import DetailConfig
from ddit_eval.patching.layout import uniform

VARIANTS = {
    "none": DetailConfig(kind="none"),
    "zero": DetailConfig(kind="zero", width=96),
    "analytic": DetailConfig(kind="analytic"),
    "conv-48x2": DetailConfig(kind="conv", width=48, depth=2, features=8),
    "conv-96x3": DetailConfig(kind="conv", width=96, depth=3, features=16),
    "conv-128x3": DetailConfig(kind="conv", width=128, depth=3, features=48),
}


def train(config: DistilConfig, progress: Progress, name: str) -> None:
    if (config.out / "errors.json").exists():
        return
    task = progress.add_task(name, total=None)
    for row in distil(config):
        progress.update(task, total=row["of"], completed=row["step"])


def row(config: DistilConfig, name: str) -> dict[str, object]:
    """Mean error over the timestep grid, and what the block adds to a pass, per scale."""
    record = json.loads((config.out / "errors.json").read_text())
    adapter = Adapter.from_pretrained(config.out)
    side = config.source.sides[0] // 4  # base tokens: VAE factor 2, patch 2
    trained = {
        r["scale"]: sum(r["error"]) / len(r["error"]) for r in record["rows"] if r["stage"] == "trained"
    }
    flops = {s: adapter.flops(uniform((1, side, side), s))["detail"] for s in adapter.scales}
    return {"variant": name, "pictures": config.pictures, "error": trained, "detail_flops": flops}


def main(
    base: Annotated[Path, typer.Option(help="The distillation that the variants are taken from.")] = Path(
        "experiments/train/mini-flux-adapter.yaml"
    ),
    pictures: Annotated[int, typer.Option(help="Training pictures of each variant.")] = 2000,
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("results/variants.json"),
    only: Annotated[list[str] | None, typer.Option(help="Train these and write nothing.")] = None,
) -> None:
    """Train every variant alike and write the comparison."""
    rows = []
    with Progress() as progress:
        for name in only or VARIANTS:
            changes = {"detail": VARIANTS[name], "pictures": pictures, "begin": None}
            config = load_config(base).model_copy(update=changes | {"out": Path("runs/variants") / name})
            train(config, progress, name)
            rows.append(row(config, name))
    if only:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    typer.run(main)
