"""`make bench`: can the clock be fooled? Seven rows that are all the base, quiet and under bursts.

The published interval of every row has to contain 1 and to lie within 5 % of it, or the run has to say that
it measured nothing; on a quiet machine that of the base against itself has to lie within 3 %. The bursts are
those of another process on one of the cores. Leave the machine alone while it runs (under four minutes).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ddit_eval.clock import machine, timing, trust
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.judging.wording import times
from ddit_eval.models.load import default_side, load_pipeline
from ddit_eval.stats import Interval
from ddit_eval.system.files import write_json
from ddit_eval.world import caption, sample_scenes

ROWS = 7
BUSY, IDLE = 0.3, 0.9  # mean seconds of a burst, and between two
WITHIN = 0.025  # asked for: with its value as far off, an interval is still within `CLOSE`
CLOSE, QUIET = 0.05, 0.03


def spin(core: int | None, seed: int) -> None:
    """Bursts of random length on a core, for ever."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    rng = random.Random(seed)
    while True:
        end = time.perf_counter() + rng.expovariate(1 / BUSY)
        while time.perf_counter() < end:
            pass
        time.sleep(rng.expovariate(1 / IDLE))


@contextmanager
def bursts(seed: int) -> Iterator[None]:
    """Another process spins while the context is open, on one of our cores where the system can pin it."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    other = multiprocessing.get_context("spawn").Process(target=spin, args=(core, seed), daemon=True)
    other.start()
    try:
        yield
    finally:
        other.kill()
        other.join()


def measure(
    watch: Stopwatch, call: Mapping[str, Any], prompts: int, seed: int, minutes: float
) -> dict[str, Any]:
    """One run over rows that are all alike: every interval, and why the clock decides nothing, if it does."""

    def run(prompt: str, noise: int) -> dict[str, float]:
        return watch.denoise({**call, "prompt": [prompt], "generator": torch.Generator().manual_seed(noise)})

    texts = [caption(scene) for scene in sample_scenes(0, 0, prompts, "heldout")]
    until = timing.Until(WITHIN, most=12, minutes=minutes)
    runners = {f"base-{i}": run for i in range(ROWS)}
    start = time.perf_counter()
    samples = timing.run_blocks(runners, texts, 2, seed, reference="base-0", until=until)
    table = timing.summarise(samples, "base-0")
    assert table.null is not None
    return {
        "seconds": time.perf_counter() - start,
        "rounds": 1 + max(s.round for s in samples),
        "repeated": len({(s.prompt, s.round) for s in samples if s.repeated}),
        "bad": trust.why_bad(table, WITHIN),
        "null": table.null,
        "rows": [row.speedup for row in table.rows],
    }


def verdict(run: Mapping[str, Any], loaded: bool) -> str:
    """ "met", "missed", or that nothing was measured."""
    if run["bad"]:
        return "nothing measured"
    intervals: Sequence[Interval] = [run["null"], *run["rows"]]
    close = all(1 - CLOSE <= i.low <= 1 <= i.high <= 1 + CLOSE for i in intervals)
    narrow = loaded or (run["null"].low >= 1 - QUIET and run["null"].high <= 1 + QUIET)
    return "met" if close and narrow else "missed"


def bench(
    pipe: Any, call: Mapping[str, Any], runs: int, prompts: int, minutes: float
) -> list[dict[str, Any]]:
    """`runs` runs on the machine as it is, and as many under bursts."""
    pipe.set_progress_bar_config(disable=True)
    watch, found = Stopwatch(pipe), []
    for seed in range(runs):
        found.append({"load": "none", **measure(watch, call, prompts, seed, minutes)})
        with bursts(seed):
            found.append({"load": "bursts", **measure(watch, call, prompts, seed, minutes)})
        for run in found[-2:]:
            run["verdict"] = verdict(run, run["load"] == "bursts")
            show(run)
    return found


def show(run: Mapping[str, Any]) -> None:
    ends = [end for interval in run["rows"] for end in (interval.low, interval.high)]
    print(
        f"load: {run['load']:6}  {run['verdict']:16}  the base against itself {times(run['null'])}, rows "
        f"{min(ends):.3f} to {max(ends):.3f}; {run['rounds']} rounds, {run['repeated']} blocks again, "
        f"{run['seconds']:.0f} s{'; ' + run['bad'] if run['bad'] else ''}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini-flux", help="a name, a folder or a hub id")
    parser.add_argument("--runs", type=int, default=5, help="with and without load, each")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=0.4, help="of a run at most")
    parser.add_argument("--out", type=Path, default=Path("results/bench-clock.json"))
    options = parser.parse_args()
    pipe = load_pipeline(options.model)
    side = default_side(pipe)
    call = {"height": side, "width": side, "num_inference_steps": 1}
    found = bench(pipe, call, options.runs, options.prompts, options.minutes)
    plain = [
        run | {"null": run["null"].to_json(), "rows": [row.to_json() for row in run["rows"]]} for run in found
    ]
    about = {"rows": ROWS, "busy": BUSY, "idle": IDLE, "within": WITHIN, "close": CLOSE, "quiet": QUIET}
    write_json(options.out, {"machine": machine.describe().plain(), "asked": about, "runs": plain})


if __name__ == "__main__":
    main()
