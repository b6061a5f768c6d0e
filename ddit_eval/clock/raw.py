"""Raw times: one sample a run, and all of them as a small CSV from which every speed-up follows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

FILE = "times.csv"
NULL = "(null)"  # the reference against itself
STAGE, PROCESSOR = "denoise", "processor"  # the latter: the processor's seconds of the former
HEAD = ("method", "prompt", "round", "position", "repeated", "load")


@dataclass(frozen=True)
class Sample:
    """One timed run: seconds by stage. `position`: its place in the block's order. `load`: the machine's
    average over a minute. `repeated`: its block was disturbed and run again, so it counts no more."""

    method: str
    prompt: int
    round: int
    position: int
    stages: dict[str, float]
    load: float = 0.0
    repeated: bool = False


def to_csv(samples: Sequence[Sample]) -> str:
    """A line a sample as they ran: `HEAD`, then seconds by stage, empty where it was not timed."""
    stages = list(dict.fromkeys(stage for s in samples for stage in s.stages))
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*HEAD, *stages])
    for s in samples:
        seconds = [s.stages.get(stage, "") for stage in stages]
        writer.writerow([s.method, s.prompt, s.round, s.position, int(s.repeated), s.load, *seconds])
    return buffer.getvalue()
