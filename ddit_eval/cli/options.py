"""Options that several commands take, with the same help."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="A name that `ddit-eval models` lists, a folder, or a hub id.")]
AdapterName = Annotated[
    str | None, typer.Option(help="Name or folder of the adapter; the model's own by default.")
]
PromptFile = Annotated[
    Path | None, typer.Option(help="Prompts from a file instead: .txt, .jsonl, .json, .csv or .tsv.")
]
Workers = Annotated[
    int,
    typer.Option(
        min=1, max=4 * (os.cpu_count() or 1), help="Processes on this machine, on a CPU a thread each."
    ),
]
Side = Annotated[int | None, typer.Option(help="Height and width in pixels; the model's own by default.")]
