from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddit_eval.ddit import handle
from ddit_eval.errors import DditError
from ddit_eval.experiment import generate as module
from ddit_eval.experiment.config import load_experiment
from ddit_eval.experiment.evaluate import evaluate
from ddit_eval.experiment.generate import Generator, generate, records_of
from ddit_eval.experiment.records import Store
from ddit_eval.experiment.setting import Setting
from ddit_eval.judging.results import read_records
from ddit_eval.schema import Quality, Record, read
from ddit_eval.system.files import HERE


@pytest.fixture(scope="session")
def filled(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of the tiny experiment."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    outcome = generate(tiny.experiment(), folder)
    assert (outcome.total, outcome.there, outcome.made) == (15, 0, 15)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file in a folder of records."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take no time: the seconds in a trace are all that differs from run to run."""
    monkeypatch.setattr(handle.time, "perf_counter", lambda: 0.0)


def picture(store: Store, record: Record) -> np.ndarray:
    return store.levels(record)[0].astype(np.int16)


def test_every_method_and_prompt_has_its_record(tiny: Any, filled: Path) -> None:
    experiment = tiny.experiment()
    records = records_of(experiment, filled)
    assert list(records) == [m.name for m in experiment.methods]
    assert [r.index for r in records["ddit"]] == [0, 1, 2]
    assert [len(r.trace) for r in records["steps-2"]] == [2, 2, 2]
    assert {s.scale for r in records["always-2p"] for s in r.trace} == {2}
    assert {s.tokens for r in records["always-2p"] for s in r.trace} == {16}
    first = records["ddit"][0].trace
    assert first[0].signals is None
    assert set(first[-1].signals or ()) == {2, 4}


def test_the_null_row_is_made_anew_and_equal(tiny: Any, filled: Path) -> None:
    records, store = records_of(tiny.experiment(), filled), Store(filled / "records")
    for one, two in zip(records["base"], records["base-again"], strict=True):
        assert one.key != two.key
        assert (picture(store, one) == picture(store, two)).all()


def test_a_second_run_makes_nothing_and_loads_no_model(tiny: Any, filled: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "Generator", None)
    outcome = generate(tiny.experiment(), filled)
    assert (outcome.there, outcome.made) == (15, 0)


def test_another_batch_size_is_another_record_and_rounds_differently(
    tiny: Any, filled: Path, tmp_path: Path
) -> None:
    experiment = tiny.experiment(batch=2, methods=[{"name": "base"}])
    generate(experiment, tmp_path / "b")
    (*two, last), alone = (
        records_of(experiment, tmp_path / "b")["base"],
        records_of(tiny.experiment(), filled),
    )
    assert last.key == alone["base"][2].key  # what is left over is made alone
    assert len({r.key for r in (*two, *alone["base"])}) == 5
    for one, other in zip(alone["base"], two, strict=False):
        a, b = picture(Store(filled / "records"), one), picture(Store(tmp_path / "b" / "records"), other)
        assert np.abs(a - b).max() <= 1


def test_methods_are_made_in_equal_batches(
    tiny: Any, filled: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    never = {"name": "never", "policy": {"kind": "threshold", "tau": 1e-30, "order": 1}}
    experiment = tiny.experiment(batch=3, methods=[{"name": "base"}, never])
    shutil.copytree(filled, tmp_path / "runs")
    assert generate(experiment, tmp_path / "runs").there == 3  # the base's, which were made alone
    assert any("batch: 3 is not used: 'never'" in str(w.message) for w in recwarn)
    quality = evaluate(experiment, tmp_path / "runs", tmp_path)
    assert math.isinf(quality.rows[1].quality["psnr"].value)  # the same computation, so the same bits


def test_a_single_sample_is_made_as_in_a_run(tiny: Any, filled: Path) -> None:
    experiment, alone = tiny.experiment(), records_of(tiny.experiment(), filled)
    setting = Setting(experiment)
    with Generator(setting) as generator:
        run = generator.sample([setting.jobs()["ddit"][2]])
    again = picture(Store(filled / "records"), alone["ddit"][2])
    assert np.abs(run.levels[0, 0].astype(np.int16) - again).max() <= 1


def test_workers_share_the_samples(tiny: Any, filled: Path, tmp_path: Path) -> None:
    outcome = generate(tiny.experiment(), tmp_path, workers=2)
    assert (outcome.total, outcome.there, outcome.made) == (15, 0, 15)
    alone, shared = records_of(tiny.experiment(), filled), records_of(tiny.experiment(), tmp_path)
    for one, two in zip(alone["ddit"], shared["ddit"], strict=True):
        a, b = picture(Store(filled / "records"), one), picture(Store(tmp_path / "records"), two)
        assert np.abs(a - b).max() <= 1
    with pytest.raises(DditError, match="at least one worker, not 0"):
        generate(tiny.experiment(), tmp_path, workers=0)
    with pytest.raises(DditError, match="for one worker, not 2"):
        generate(tiny.experiment(), tmp_path, pipe=object(), workers=2)


def test_what_a_worker_that_died_has_left_is_made(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_help", _dies)
    with pytest.warns(UserWarning, match="worker 3 of 3 ended with exit code 1"):
        generate(tiny.experiment(), tmp_path, workers=3)
    assert all(len(records) == 3 for records in records_of(tiny.experiment(), tmp_path).values())


def _dies(*call: Any, stop: Any) -> None:
    raise SystemExit(1)


def test_a_killed_run_goes_on_where_it_was(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    experiment = tiny.experiment(methods=[{"name": "base"}, {"name": "two", "steps": 2}])
    save, saved = Store.save, []

    def dies(self: Store, job: Any, *rest: Any) -> Any:
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(job.key)
        return save(self, job, *rest)

    monkeypatch.setattr(Store, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        generate(experiment, tmp_path)
    with pytest.raises(DditError, match=r"index\.json is missing"):
        records_of(experiment, tmp_path)
    monkeypatch.setattr(Store, "save", save)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").glob("*.json")}
    victim = next(iter(before))
    victim.write_text("{")
    with pytest.warns(UserWarning, match=victim.stem):
        outcome = generate(experiment, tmp_path)
    assert (outcome.there, outcome.made, outcome.damaged) == (3, 3, 1)
    kept = [p for p, time in before.items() if p.stat().st_mtime_ns == time]
    assert len(kept) == 3
    assert len(records_of(experiment, tmp_path)["two"]) == 3


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_killed_at_any_write_a_run_ends_with_the_same_bytes(
    tiny: Any, tmp_path: Path, monkeypatch: Any, one_clock: None, moment: str
) -> None:
    two = {"name": "two", "policy": {"kind": "fixed", "scale": 2}}
    experiment = tiny.experiment(
        batch=2, methods=[{"name": "base"}, two], steps=1, prompts={"source": "world", "count": 3}
    )
    generate(experiment, tmp_path / "whole")
    expected = bytes_of(tmp_path / "whole")
    assert len(expected) == 2 * 2 * 3 + 1
    hook = "fsync" if moment == "before" else "replace"
    write, left = getattr(os, hook), 0

    def killed(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if moment == "after":
            write(*arguments)
        if left == 0:
            raise KeyboardInterrupt
        if moment != "after":
            write(*arguments)

    monkeypatch.setattr(os, hook, killed)
    monkeypatch.setattr(module, "check_writable", lambda folder: None)
    with Generator(Setting(experiment)) as generator:  # one model for all
        monkeypatch.setattr(module, "Generator", lambda *_: nullcontext(generator))
        for writes in range(1, len(expected)):  # each run gets one write further
            left = writes
            with suppress(KeyboardInterrupt):
                generate(experiment, tmp_path / "killed")
                break
    assert left > 0  # the last one had its writes to spare
    assert bytes_of(tmp_path / "killed") == expected


def test_records_that_vanish_meanwhile_are_counted(tiny: Any, tmp_path: Path, monkeypatch: Any) -> None:
    experiment, save = tiny.experiment(methods=[{"name": "base"}], steps=1), Store.save

    def loses(self: Store, *made: Any) -> Any:
        shutil.rmtree(self.folder)
        return save(self, *made)

    monkeypatch.setattr(Store, "save", loses)
    with pytest.raises(DditError, match=r"2 of 3 records are not in .*records in the end"):
        generate(experiment, tmp_path)
    assert not (tmp_path / "index.json").exists()
    monkeypatch.setattr(Store, "save", save)
    assert (generate(experiment, tmp_path).made, len(records_of(experiment, tmp_path)["base"])) == (2, 3)


def test_what_is_damaged_is_healed_by_run_and_refused_by_the_others(
    tiny: Any, tmp_path: Path, filled: Path, one_clock: None
) -> None:
    shutil.copytree(filled, tmp_path / "runs")
    store, experiment = Store(tmp_path / "runs" / "records"), tiny.experiment()
    one, two = records_of(experiment, filled)["base"][:2]
    (store.folder / one.image).write_bytes((store.folder / two.image).read_bytes())
    (store.folder / f".left.json.{HERE}.999999999.tmp").write_text("half")
    for reader in (
        lambda: evaluate(experiment, tmp_path / "runs", tmp_path),
        lambda: read_records(tmp_path / "runs"),
    ):
        with pytest.raises(DditError, match=f"{one.key}.png is not the picture .*`ddit-eval run EXPERIMENT`"):
            reader()
    with pytest.warns(UserWarning, match=f"1 of the records .*{one.key}.png is not"):
        outcome = generate(experiment, tmp_path / "runs")
    assert (outcome.there, outcome.made, outcome.damaged) == (14, 1, 1)
    ours, theirs = (bytes_of(folder) for folder in (tmp_path / "runs", filled))
    changed = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert changed <= {f"records/{one.key}.json"}  # the seconds of its steps


def test_a_record_takes_the_names_and_the_pace_that_the_experiment_has_now(
    tiny_video: Any, tmp_path: Path
) -> None:
    methods = [{"name": "base"}]
    generate(tiny_video.experiment(methods=methods, steps=1), tmp_path)
    renamed = tiny_video.experiment(methods=[{"name": "again"}], reference="again", steps=1, fps=5)
    assert generate(renamed, tmp_path).made == 0
    assert {(r.method, r.fps) for r in records_of(renamed, tmp_path)["again"]} == {("again", 5)}


def test_a_run_that_is_killed_outright_loses_nothing(tiny: Any, tmp_path: Path) -> None:
    data = tiny.data() | {"prompts": {"source": "world", "count": 40}, "methods": [{"name": "base"}]}
    yaml = tmp_path / "tiny.yaml"
    yaml.write_text(json.dumps(data))
    command = [sys.executable, "-m", "ddit_eval.cli", "run", str(yaml), "--runs", str(tmp_path / "runs")]
    records = tmp_path / "runs" / "tiny" / "records"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until = time.monotonic() + 120
        while len(list(records.glob("*.json"))) < 3 and run.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in records.glob("*.json")}
    outcome = generate(load_experiment(yaml), tmp_path / "runs" / "tiny")
    assert (outcome.there, outcome.made) == (len(before), 40 - len(before))
    assert 3 <= outcome.there < 40
    assert all(p.stat().st_mtime_ns == written for p, written in before.items())


def test_records_of_another_experiment_are_refused(tiny: Any, filled: Path) -> None:
    with pytest.raises(DditError, match="older experiment"):
        records_of(tiny.experiment(steps=5), filled)
    with pytest.raises(DditError, match="older experiment"):
        records_of(tiny.experiment(prompts={"source": "world", "count": 3, "seed": 9}), filled)
    with pytest.raises(DditError, match="0 of 3 records of 'new'"):
        records_of(tiny.experiment(methods=[{"name": "base"}, {"name": "new", "steps": 3}]), filled)


def test_a_run_that_cannot_write_says_so_before_it_computes(
    tiny: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "Generator", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(DditError, match="cannot write"):
        generate(tiny.experiment(), tmp_path / "file")


def test_nan_and_sizes_that_cannot_be_are_errors(tiny: Any) -> None:
    setting, odd = Setting(tiny.experiment()), Setting(tiny.experiment(side=30))
    with Generator(setting) as generator:
        job = setting.jobs()["base"][0]
        bias = generator.pipe.vae.decoder.conv_out.bias
        bias.data.fill_(float("nan"))
        with pytest.raises(DditError, match="NaN"):
            generator.sample([job])
    with pytest.raises(DditError, match="30 x 30"):
        Generator(odd)


def test_evaluation_reads_records_and_writes_what_others_read(
    tiny: Any, filled: Path, tmp_path: Path
) -> None:
    content = evaluate(tiny.experiment(), filled, tmp_path)
    quality = content.plain()
    rows = {row["method"]: row for row in quality["rows"]}
    assert read(tmp_path / "quality.json", Quality) == content
    assert rows["base-again"]["quality"]["psnr"]["value"] == "inf"
    assert rows["steps-2"]["token_ratio"] == rows["steps-2"]["flop_ratio"] == 2
    assert rows["always-2p"]["token_ratio"] == 4
    assert rows["always-2p"]["scale_share"] == {"2": 1.0}
    assert 5 < rows["always-2p"]["quality"]["psnr"]["value"] < 60
    assert quality["metrics"]["psnr"]["direction"] == "higher"
    sight = {(row["metric"], row["damage"]): row["sight"] for row in quality["damage"]}
    assert sight["psnr", "blur"] == "seen"
    traces = json.loads((tmp_path / "traces.json").read_text())["methods"]
    assert np.shape(traces["ddit"]["scales"]) == (3, 4)
    assert traces["base"]["signals"] is None
    assert traces["ddit"]["signals"]["2"][0][0] is None
    lines = list(csv.DictReader((tmp_path / "samples.csv").open()))
    assert len(lines) == 15
    assert lines[0]["method"] == "base"
    assert lines[0]["psnr"] == "inf"
    assert int(lines[0]["tokens"]) == 4 * 64
    assert json.loads((tmp_path / "metrics.json").read_text())["always-2p"]["token_ratio"] == 4


def test_evaluation_is_the_same_byte_for_byte(tiny: Any, filled: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        evaluate(tiny.experiment(), filled, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_set_metrics_stand_in_quality_with_their_reference(tiny: Any, filled: Path, tmp_path: Path) -> None:
    sets = {"reference": "world:heldout:16:seed9:32px", "families": ["frechet"]}
    experiment = tiny.experiment(sets=sets, prompts={"source": "world", "count": 12})
    generate(experiment, tmp_path / "runs")
    quality = evaluate(experiment, tmp_path / "runs", tmp_path).plain()
    rows = {row["method"]: row for row in quality["sets"]}
    assert set(rows) == {"base", "base-again", "steps-2", "always-2p", "ddit"}
    assert {(row["metric"], row["n"], row["n_reference"]) for row in rows.values()} == {
        ("frechet-reader", 12, 16)
    }
    assert "difference" not in rows["base"]
    assert rows["base-again"]["difference"]["value"] == pytest.approx(0, abs=1e-9)
    assert rows["always-2p"]["warnings"]
    assert not evaluate(tiny.experiment(), filled, tmp_path).sets


def test_an_unknown_metric_is_named(tiny: Any, filled: Path, tmp_path: Path) -> None:
    with pytest.raises(DditError, match="'pnsr'"):
        evaluate(tiny.experiment(metrics=["pnsr"]), filled, tmp_path)


def test_timing_has_a_row_a_method_and_the_null_row(tiny: Any, tmp_path: Path) -> None:
    from ddit_eval.experiment.time import time_experiment

    content = time_experiment(tiny.experiment(), tmp_path / "timing.json").plain()
    assert [row["method"] for row in content["rows"]] == [m.name for m in tiny.experiment().methods]
    assert content["null"]["low"] <= content["null"]["value"] <= content["null"]["high"]
    stages = content["rows"][1]["stages"]
    assert set(stages) >= {"text", "denoise", "decode", "end_to_end"}
    assert 0 < stages["transformer"] < stages["denoise"]
    assert [row["scale"] for row in content["scales"]] == [1, 2]
    assert all(row["bound"] > 0 for row in content["scales"])
    assert all(row["counted"] == row["flops"] for row in content["scales"])  # the formula and torch agree
    steps = sum(row["runs"] * (2 if row["method"] == "steps-2" else 4) for row in content["rows"])
    null = content["rows"][0]["runs"] * 4
    assert sum(row["n"] for row in content["scales"]) == steps + null  # and none of the warm-up
    assert content["machine"]["cores"] >= 1
    assert [len(row["by_step"]) for row in content["rows"]] == [
        tiny.experiment().steps_of(m) for m in tiny.experiment().methods
    ]
    written = json.loads((tmp_path / "timing.json").read_text())
    assert {k: v for k, v in written.items() if k != "checksum"} == content


def test_the_time_of_a_step_is_a_mean_in_parts_by_scale() -> None:
    from ddit_eval.ddit.trace import StepTrace
    from ddit_eval.experiment.time import by_step

    def run(*steps: tuple[int, float]) -> list[StepTrace]:
        return [StepTrace(i, 500.0, scale, None, 1, 1, s) for i, (scale, s) in enumerate(steps)]

    assert by_step([run((1, 0.25), (4, 0.125)), run((1, 0.75), (1, 0.25))]) == (
        {1: 0.5},
        {4: 0.0625, 1: 0.125},
    )


def test_skipped_steps_are_run_and_measured(tiny: Any, tmp_path: Path) -> None:
    policy = {"kind": "skip", "every": 2, "forecast": 1, "gain": 0.5}
    methods = [{"name": "base"}, {"name": "skip", "policy": policy}]
    experiment = tiny.experiment(methods=methods, adapter=None, metrics=["psnr"])
    generate(experiment, tmp_path / "runs")
    row = evaluate(experiment, tmp_path / "runs", tmp_path).rows[1]
    assert (row.scale_share, row.coarse_share, row.skipped_share) == ({0: 0.5, 1: 0.5}, 0.0, 0.5)
    assert row.token_ratio == row.flop_ratio == 2


def test_regions_are_run_measured_timed_and_drawn(tiny: Any, tmp_path: Path) -> None:
    from ddit_eval.experiment.time import time_experiment
    from ddit_eval.report import Part, build_all

    policy = {"kind": "region", "budget": 0.5, "order": 1}
    experiment = tiny.experiment(methods=[{"name": "base"}, {"name": "region", "policy": policy}])
    runs, results = tmp_path / "runs" / "tiny", tmp_path / "results"
    generate(experiment, runs)
    trace = records_of(experiment, runs)["region"][0].trace
    assert trace[0].flops is None
    assert set(trace[-1].counts or ()) == {1, 2, 4}
    quality = evaluate(experiment, runs, results / "tiny")
    row = quality.rows[1]
    tokens = [step.tokens for step in trace]
    assert row.token_ratio == pytest.approx(tokens[0] * len(tokens) / sum(tokens))
    table = json.loads((runs / "index.json").read_text())["flops"]
    spent = [step.flops or table[str(step.scale)] for step in trace]
    assert len(set(spent)) == 2
    assert row.flop_ratio == pytest.approx(table["1"] * len(trace) / sum(spent))
    content = time_experiment(experiment, results / "tiny" / "timing.json")
    assert [scale.scale for scale in content.scales] == [1]  # steps of several sizes are of no scale
    build_all(results, [Part("tiny", runs, None)], None)
    assert (results / "tiny" / "figures" / "regions-region.png").stat().st_size > 10_000
    with Image.open(results / "tiny" / "films" / "regions-region.gif") as film:
        assert film.n_frames == len(trace)
    assert "Patch sizes of region, step by step" in (results / "tiny" / "report.html").read_text()
