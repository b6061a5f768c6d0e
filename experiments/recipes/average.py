"""The mean of several runs' weights, which is often better than each of them (model soups, 2203.05482).

    python -m experiments.recipes.average OUT A=0.5 B=0.5

The runs must have gone on from the same weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import load_file, save_file

from ddit_eval.errors import DditError


def average(out: Path, shares: Mapping[Path, float]) -> None:
    """Write the weighted mean of pipelines to the folder `out`; `shares` add up to 1.

    All but the weights is copied from the first. Raises `DditError` where weights do not match.
    """
    if not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise DditError(f"shares must add up to 1, got {list(shares.values())}")
    first = next(iter(shares))
    shutil.copytree(first, out)
    for path in sorted(first.rglob("*.safetensors")):
        name = path.relative_to(first)
        parts = [(load_file(folder / name), share) for folder, share in shares.items()]
        kept, _ = parts[0]
        for other, _ in parts[1:]:
            if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in kept.items()}:
                raise DditError(f"{name} is not of one shape in all of {', '.join(map(str, shares))}")
        mean = {
            key: sum(part[key].float() * share for part, share in parts).to(value.dtype).contiguous()  # type: ignore[union-attr]
            for key, value in kept.items()
        }
        save_file(mean, out / name, {"format": "pt"})


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not be there yet.")],
    parts: Annotated[list[str], typer.Argument(help="PIPELINE=SHARE, several; shares add up to 1.")],
) -> None:
    """Average the weights of pipelines of one ancestry."""
    average(out, {Path(name): float(share) for name, _, share in (part.rpartition("=") for part in parts)})


if __name__ == "__main__":
    typer.run(main)
