"""`make attack`."""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process whose torch has threads may hang

import torch

from ddit_eval.system.quiet import quiet_libraries
from tests.support.attack.formats import Format, formats
from tests.support.attack.judge import VERDICTS, Case, attack, prepare
from tests.support.attack.kit import Kit

if TYPE_CHECKING:
    from tests.support.attack.kills import Outcome

WORK: list[Callable[[Any], Any]] = []  # what a forked worker does; a closure, which cannot be pickled


def order(known: Sequence[Format], count: int) -> list[str]:
    """The format of each case: in turn, each as often as its share says, whatever the count."""
    due, turns = dict.fromkeys((f.name for f in known), 0.0), list[str]()
    while len(turns) < count:
        for format in known:
            due[format.name] += format.share
            while due[format.name] >= 1:
                due[format.name] -= 1
                turns.append(format.name)
    return turns[:count]


def attacked(kit: Kit, numbers: Sequence[int], seed: int, workers: int, keep: bool = False) -> Iterator[Case]:
    """The cases of these numbers, in any order."""
    known = {f.name: f for f in formats(kit)}
    turns = order(list(known.values()), max(numbers, default=-1) + 1)
    names = dict.fromkeys(turns[number] for number in numbers)
    examples = {name: prepare(known[name], kit.root / "examples" / name / "whole") for name in names}
    yield from shared(
        lambda n: attack(examples[turns[n]], seed, n, kit.root / f"case-{n}", keep), numbers, workers
    )


def killed(kit: Kit, stride: int, workers: int, names: Sequence[str]) -> dict[str, Outcome]:
    from tests.support.attack.kills import commands, kill  # MLflow and Optuna: forks before them are lighter

    known = {command.name: command for command in commands(kit)}
    chosen = names or list(known)
    return dict(shared(lambda name: (name, kill(known, name, kit.root / "kills", stride)), chosen, workers))


def shared(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    WORK.append(work)
    gc.collect()
    gc.freeze()  # what is never looked at is never copied
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for done, result in enumerate(pool.imap_unordered(_work, items), 1):
            print(f"\r{done} of {len(items)}", end="", file=sys.stderr)
            yield result
    print(file=sys.stderr)


def _work(item: Any) -> Any:
    return WORK[-1](item)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [list(map(str, row)) for row in (heads, *rows)]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, wide, strict=True)))
        for row in cells
    )


def of_files(cases: Sequence[Case], seed: int) -> str:
    counts, total = Counter((c.format, c.verdict) for c in cases), Counter(c.verdict for c in cases)
    names = dict.fromkeys(case.format for case in sorted(cases, key=lambda case: case.number))
    rows = [[name, *(counts[name, verdict] for verdict in VERDICTS)] for name in names]
    rows.append([f"{len(cases)} files, seed {seed}", *(total[verdict] for verdict in VERDICTS)])
    return table(["format", *VERDICTS], rows)


def of_kills(outcomes: dict[str, Outcome]) -> str:
    rows = [[name, o.boundaries, o.same, o.healed, len(o.wrong)] for name, o in outcomes.items()]
    return table(["command", "boundaries", "same bytes", "healed", "FAILED"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.attack")
    parser.add_argument("--files", type=int, default=2400, help="how many damaged files")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--case", type=int, help="this case alone, with its traceback; its folder is kept")
    parser.add_argument("--kills", type=int, default=1, metavar="N", help="at every N-th boundary; 0: none")
    parser.add_argument("--command", action="append", default=[], help="kill this one only; may be repeated")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="all outcomes, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    if args.case is not None:
        kit = Kit(Path(tempfile.mkdtemp(prefix="attack-")))
        print(*attacked(kit, [args.case], args.seed, 1, keep=True), f"its folder: {kit.root}", sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        kit = Kit(Path(folder))
        cases = sorted(
            attacked(kit, range(args.files), args.seed, args.workers), key=lambda case: case.number
        )
        outcomes = killed(kit, args.kills, args.workers, args.command) if args.kills else {}
    for case in cases:
        if case.verdict == "FAILED":
            print(f"--case {case.number}: {case.format}, {case.file}, {case.kind}: {case.why}"[:400])
    for name, outcome in outcomes.items():
        print(*(f"{name}, {wrong}" for wrong in outcome.wrong), sep="\n", end="\n" * bool(outcome.wrong))
    print(of_files(cases, args.seed), of_kills(outcomes), sep="\n\n")
    if args.out:
        found = {"cases": list(map(asdict, cases)), "kills": {n: asdict(o) for n, o in outcomes.items()}}
        args.out.write_text(json.dumps(found))
    return any(case.verdict == "FAILED" for case in cases) or any(o.wrong for o in outcomes.values())


if __name__ == "__main__":
    raise SystemExit(main())
