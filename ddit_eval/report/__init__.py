"""From result files to what people read: summary.json, report.md, report.html, figures, the README's
table."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from ddit_eval.experiment.config import load_experiment
from ddit_eval.figures.of_results import note, write_figures
from ddit_eval.judging.results import Results, load, read_records
from ddit_eval.judging.verdict import Verdict, judge
from ddit_eval.report.blocks import Heading, Link, to_markdown
from ddit_eval.report.document import document
from ddit_eval.report.gallery import gallery
from ddit_eval.report.page import to_html
from ddit_eval.report.provenance import collect
from ddit_eval.report.readme import readme_table
from ddit_eval.report.summary import summarise
from ddit_eval.system.files import check_writable, sweep, write_json, write_text
from ddit_eval.system.workers import check_workers


@dataclass(frozen=True)
class Part:
    """One profile of a report. `runs`: the runs/<profile> folder that pictures and step times come from;
    beside the results where not given. `experiment`: its YAML, which the results must be of, shown in the
    page."""

    profile: str
    runs: Path | None = None
    experiment: Path | None = None


def build_all(
    results_root: Path, parts: Sequence[Part], readme: Path | None = None, workers: int = 1
) -> list[Path]:
    """Write a report for each profile in `results_root`/<profile>; the paths of their report.md.

    Reads <profile>/quality.json and, where they are, timing.json, traces.json, study.json, samples.csv,
    distillation.json, oracle.json and frontier.json. Writes <profile>/report.md, report.html (one page that
    needs nothing beside it) and figures/*.png, films/*.gif, and `results_root`/summary.json (the contract;
    the rows of all profiles). `readme`: also rewrite its results block. `workers`: processes, which share the
    parts. Raises `DditError` where a quality.json is missing, files do not belong together or to the
    experiment, or a folder cannot be written to.
    """
    check_workers(workers)
    said = [load_experiment(part.experiment) if part.experiment else None for part in parts]
    loaded = [load(results_root / p.profile, experiment) for p, experiment in zip(parts, said, strict=True)]
    sweep(results_root)  # before workers write there
    verdicts = [judge(results) for results in loaded]
    calls = [
        (results_root, part, results, verdict, [other.profile for other in parts if other is not part])
        for part, results, verdict in zip(parts, loaded, verdicts, strict=True)
    ]
    if (count := min(workers, len(calls))) > 1:
        with ProcessPoolExecutor(count, get_context("spawn")) as pool:
            for done in [pool.submit(_write, *call) for call in calls]:
                done.result()
    else:
        for call in calls:
            _write(*call)
    write_json(results_root / "summary.json", summarise(*loaded).plain())
    if readme is not None:
        readme_table(readme, list(zip(loaded, verdicts, strict=True)))
    return [results_root / part.profile / "report.md" for part in parts]


def _write(root: Path, part: Part, results: Results, verdict: Verdict, others: Sequence[str]) -> None:
    folder = root / part.profile
    check_writable(folder)
    beside = root.resolve().parent / "runs" / part.profile
    records = read_records(beside if part.runs is None else part.runs)
    figures = write_figures(results, folder, records)
    methods = [results.quality.reference, *(row.method for row in results.accelerated())]
    pictures = gallery(records, methods, {m: note(results, m) for m in methods})
    made = collect(records, part.experiment)
    blocks = document(results, verdict, figures, pictures, made)
    links = [Link(f"The report of the profile {other}", f"../{other}/report") for other in others]
    first = next(i for i, block in enumerate(blocks) if isinstance(block, Heading))
    blocks[first:first] = links
    write_text(folder / "report.md", to_markdown(blocks))
    write_text(folder / "report.html", to_html(blocks, f"ddit-eval: {part.profile}", folder))
