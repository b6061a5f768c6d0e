"""The files of a report: the verdict first, the summary by its contract, the same bytes again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from ddit_eval import report
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import load_experiment
from ddit_eval.figures.of_results import chosen
from ddit_eval.judging.advice import sentences
from ddit_eval.judging.results import load
from ddit_eval.judging.verdict import judge
from ddit_eval.report.readme import readme_table, shortlist
from ddit_eval.schema import Quality, Timing, read, write
from ddit_eval.schema.summary import Summary
from tests.support import fake_results
from tests.support.fake_frontier import frontier

METHODS = (
    "base", "base-again", "steps-18", "steps-12", "steps-7", "always-2p", "coarse-first-8", "random",
    "ddit-o3", "ddit-o3-low", "budget-50",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake_results.write(root, prompts=6, trials=6, only=METHODS)
    (root / "README.md").write_text("# Title\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n")
    stale = root / "results" / "quick" / "figures" / "schedule-gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    report.build_all(root / "results", [report.Part("quick")], root / "README.md")
    return root


def test_the_summary_is_the_contract(built: Path) -> None:
    data = json.loads((built / "results" / "summary.json").read_text())
    summary = Summary.model_validate(data)
    assert [row.method for row in summary.rows] == list(METHODS)
    assert set(data["rows"][0]) == {
        "model", "method", "params", "n", "steps", "token_ratio", "flop_ratio", "speedup", "quality",
    }  # fmt: skip
    assert data["rows"][0]["quality"]["psnr"] == {"value": "inf", "low": "inf", "high": "inf"}
    with pytest.raises(ValidationError):
        Summary.model_validate(data | {"extra": 1})


def test_the_first_line_is_the_verdict(built: Path) -> None:
    lines = (built / "results" / "quick" / "report.md").read_text().splitlines()
    assert lines[0].startswith(
        "**No DDiT row is shown to be faster at no measurable loss (within 0.05 object accuracy, 6 prompts, "
    )
    assert "A simple baseline wins: fewer steps beats DDiT" in lines[0]
    assert lines[0] == f"**{judge(load(built / 'results' / 'quick')).line}**"


def test_the_report_names_policies_that_never_fired_and_links_what_exists(built: Path) -> None:
    folder = built / "results" / "quick"
    text = (folder / "report.md").read_text()
    assert "- ddit-o3-low: the policy never fired" in text
    linked = [part.split(")")[0] for part in text.split("](")[1:]]
    assert "figures/speed-quality-psnr.png" in linked
    assert {"figures/pictures.png", "figures/step-times.png"} <= set(linked)
    assert all((folder / path).is_file() for path in linked)
    assert not (folder / "figures" / "schedule-gone.png").exists()
    page = (folder / "report.html").read_text()
    assert "<table>" in page
    assert 'src="figures/' not in page  # they are inside
    assert 'data-found="not testable here"' in page
    assert len(page) < 4_000_000


def test_building_again_changes_nothing(built: Path) -> None:
    files = [p for p in (built / "results").rglob("*") if p.is_file()]
    before = {p: p.read_bytes() for p in files}
    report.build_all(built / "results", [report.Part("quick")], built / "README.md")
    assert {p: p.read_bytes() for p in (built / "results").rglob("*") if p.is_file()} == before


def test_the_readme_keeps_all_but_its_block(built: Path) -> None:
    text = (built / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- results:begin -->\n**")
    assert text.endswith("<!-- results:end -->\n\nEnd.\n")
    assert "| ddit-o3 | DDiT | 24 |" in text
    assert "old" not in text.split("<!-- results:begin -->")[1].split("\n")[1]


def test_a_readme_without_marks_is_an_error(built: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Title\n")
    results = load(built / "results" / "quick")
    with pytest.raises(DditError, match="needs the marks"):
        readme_table(tmp_path / "README.md", [(results, judge(results))])


def test_a_profile_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"quality\.json is missing. Make it anew: `ddit-eval evaluate"):
        report.build_all(tmp_path, [report.Part("nothing")])


def test_two_profiles_share_summary_and_readme_and_name_each_other(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=3)
    other = folder.parent / "video"
    shutil.copytree(folder, other)
    quality = read(other / "quality.json", Quality)
    write(other / "quality.json", quality.model_copy(update={"profile": "video", "model": "mini-wan"}))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    parts = [report.Part("quick"), report.Part("video")]
    first, second = report.build_all(tmp_path / "results", parts, readme)
    alone = {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()}
    assert report.build_all(tmp_path / "results", parts, readme, workers=2) == [first, second]
    assert {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()} == alone
    assert "../video/report.md" in first.read_text()
    assert "../quick/report.md" in second.read_text()
    assert 'href="../video/report.html"' in first.with_suffix(".html").read_text()
    rows = json.loads((tmp_path / "results" / "summary.json").read_text())["rows"]
    half = len(rows) // 2
    assert [row["model"] for row in rows] == ["mini-flux"] * half + ["mini-wan"] * half
    assert "results/quick/report.md" in readme.read_text()
    assert "mini-wan, profile video" in readme.read_text()
    counts = [part.count("\n| ") for part in readme.read_text().split(", profile ")]
    assert counts[:2] == [8, 8]  # a head, a rule and six rows each


def test_only_what_evaluate_wrote_is_needed(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2)
    for name in ("timing.json", "study.json"):
        (folder / name).unlink()
    (written,) = report.build_all(tmp_path / "results", [report.Part("quick", tmp_path / "none")])
    text = written.read_text()
    assert text.startswith("**No verdict: ")
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["machine"] is None
    assert summary["rows"][3]["speedup"] == {"value": None, "low": None, "high": None}


def test_pictures_show_the_base_first_and_every_family(built: Path) -> None:
    picked = chosen(load(built / "results" / "quick"))
    assert picked[0] == "base"
    assert len(picked) == 8
    assert {"random", "budget-50"} <= set(picked)
    assert "ddit-o3-low" not in picked


def test_the_readme_shows_the_base_the_worst_ddit_row_and_the_best_of_each_family(built: Path) -> None:
    results = load(built / "results" / "quick")
    picked = shortlist(results)
    assert picked == ["base", "steps-12", "always-2p", "random", "ddit-o3", "budget-50"]


def test_the_best_ways_to_a_speed_up_open_report_and_readme_and_are_in_the_summary(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2, only=METHODS)
    write(folder / "frontier.json", frontier())
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    (written,) = report.build_all(tmp_path / "results", [report.Part("quick")], readme)
    text, columns = written.read_text(), load(folder).quality.metrics
    said = [f"**{sentence}**" for sentence in sentences(frontier(), columns)]
    assert text.split("\n\n")[:3] == said
    assert text.split("\n\n")[3] == f"**{judge(load(folder)).line}**"
    assert readme.read_text().split("\n\n")[1:3] == said[1:]
    assert (
        text.index("frontier.png")
        < text.index("## The paper's claims")
        < text.index("speed-quality-psnr.png")
    )
    assert (folder / "figures" / "frontier.png").is_file()
    assert "<td>the first 4 at 2p" not in text
    assert "10 steps, the first 4 at 2p, 1 in 2 fine" in written.with_suffix(".html").read_text()
    summary = Summary.model_validate_json((tmp_path / "results" / "summary.json").read_text())
    assert [target.best for target in summary.frontier] == ["skip-2", "mixed-10", None]
    assert (summary.frontier[1].gain.low, summary.frontier[2].gain.value) == (-0.7, None)


def test_reports_of_the_shipped_results_are_short(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2]
    profiles = ("quick", "quick-video")
    for name in profiles:
        source = shipped / "results" / name
        shutil.copytree(
            source, tmp_path / name, ignore=shutil.ignore_patterns("figures", "films", "report.*")
        )
        try:
            load(tmp_path / name, load_experiment(shipped / "experiments" / f"{name}.yaml"))
        except DditError as error:  # until `make repro` has made them anew
            pytest.skip(str(error))
    parts = [report.Part(name, experiment=shipped / "experiments" / f"{name}.yaml") for name in profiles]
    written = report.build_all(tmp_path, parts)
    assert [path.stat().st_size < 20_000 for path in written] == [True, True]
    theirs = (shipped / "results" / "summary.json").read_bytes()
    assert (tmp_path / "summary.json").read_bytes() == theirs


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2)
    timing = read(folder / "timing.json", Timing)
    row = timing.row("ddit-o3")
    assert row is not None
    assert row.of is not None
    row.of.policy["tau"] = 0.75
    write(folder / "timing.json", timing)
    with pytest.raises(
        DditError, match=r"ddit-o3.*policy.tau is 0.75 in timing.json and 0.5 in quality.json"
    ):
        report.build_all(tmp_path / "results", [report.Part("quick")])
    assert not (folder / "report.md").exists()
