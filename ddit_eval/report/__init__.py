"""From result files to what people read: summary.json, report.md, report.html, figures, the README's
table."""

from __future__ import annotations

from pathlib import Path

from ddit_eval.files import check_writable, write_json, write_text
from ddit_eval.report.readme import readme_table
from ddit_eval.report.results import Results, load, read_records
from ddit_eval.report.summary import Summary, summarise
from ddit_eval.report.verdict import Verdict, judge

__all__ = ["Results", "Summary", "Verdict", "build", "judge", "load", "readme_table", "summarise"]


def build(
    results_root: Path,
    profile: str,
    readme: Path | None = None,
    runs: Path | None = None,
    experiment: Path | None = None,
) -> Path:
    """Write the report of `results_root`/`profile` and return the path of report.md.

    Reads <profile>/quality.json and, where they are, timing.json, traces.json, study.json, samples.csv,
    distillation.json and oracle.json. Writes `results_root`/summary.json (the contract; this profile's
    rows), <profile>/report.md, report.html (one page that needs nothing beside it) and figures/*.png and
    *.svg. `readme`: also rewrite its results block. `runs`: the runs/<profile> folder that pictures and step
    times come from; runs/<profile> beside `results_root` where not given. `experiment`: its YAML, shown
    in the page. Raises `DditError` where quality.json is missing or the folder cannot be written to.
    """
    from ddit_eval.report.blocks import to_markdown
    from ddit_eval.report.document import document
    from ddit_eval.report.kept import accelerated
    from ddit_eval.report.page import gallery, to_html
    from ddit_eval.report.plots import note, write_figures
    from ddit_eval.report.provenance import collect

    folder = results_root / profile
    results = load(folder)
    check_writable(folder)
    verdict = judge(results)
    beside = results_root.resolve().parent / "runs" / profile
    records = read_records(beside if runs is None else runs)
    figures = write_figures(results, folder / "figures", records)
    methods = [results.quality["reference"], *(row["method"] for row in accelerated(results))]
    pictures = gallery(records, methods, {m: note(results, m) for m in methods})
    blocks = document(results, verdict, figures, pictures, collect(records, experiment))
    write_json(results_root / "summary.json", summarise(results).model_dump(mode="json"))
    write_text(folder / "report.md", to_markdown(blocks))
    write_text(folder / "report.html", to_html(blocks, f"ddit-eval: {profile}", folder))
    if readme is not None:
        readme_table(readme, results, verdict)
    return folder / "report.md"
