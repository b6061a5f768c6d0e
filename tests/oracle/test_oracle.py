"""Harm, oracle and calibration: pure parts against brute force, the rest on the tiny pipeline."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddit_eval.ddit.policies.calibration import FILE, Calibration, CurvePoint, Run, StepTable, load
from ddit_eval.errors import DditError
from ddit_eval.oracle import best as oracle
from ddit_eval.oracle.fit import best_order, curve, fit, prices, step_tables
from ddit_eval.oracle.gap import CAP, additivity, at_cost, gap, quality
from ddit_eval.oracle.table import HarmTable, fill_steps

SCALES, COST = (2, 4), (0.45, 0.2)


def table_of(prompts: int = 8, steps: int = 6, seed: int = 0) -> HarmTable:
    """Harm that falls along the run and grows with how busy a prompt is; order 2 alone sees that exactly."""
    rng = np.random.default_rng(seed)
    busy = rng.uniform(0.3, 3, prompts)
    harm = busy[:, None, None] * np.geomspace(1e-2, 1e-4, steps)[None, :, None] * np.array([1.0, 3.0])
    signals = {}
    for order in (1, 2, 3):
        noise = rng.permutation(busy) if order != 2 else busy
        signals[order] = np.broadcast_to(noise[:, None, None], harm.shape).copy()
        signals[order][:, :order] = np.nan
    return HarmTable(tuple(f"p{i}" for i in range(prompts)), SCALES, COST, harm, signals)


def honest(draft: Calibration, price: float) -> tuple[float, float]:
    """A trial that costs less and harms more the higher the price."""
    return price, 1 / (1 + 100 * price)


@given(
    steps=st.integers(1, 5),
    budget=st.floats(0.25, 1),
    values=st.lists(st.floats(0, 1), min_size=10, max_size=10),
)
@settings(deadline=None, max_examples=50)
def test_the_oracle_is_the_best_of_all_schedules(steps: int, budget: float, values: list[float]) -> None:
    harm = np.asarray(values[: 2 * steps]).reshape(steps, 2)
    found = oracle.best(harm, COST, SCALES, budget)
    price = {1: 1.0, **dict(zip(SCALES, COST, strict=True))}
    every = [
        s for s in product((1, *SCALES), repeat=steps) if sum(price[x] for x in s) / steps <= budget + 1e-9
    ]
    assert found.harm == pytest.approx(min(oracle.total(harm, SCALES, s) for s in every))
    assert oracle.total(harm, SCALES, found.scales) == pytest.approx(found.harm)
    assert sum(price[x] for x in found.scales) / steps == pytest.approx(found.cost)
    assert found.cost <= budget + 1e-9


def test_the_oracle_says_what_it_cannot_do() -> None:
    harm = np.ones((3, 2))
    with pytest.raises(DditError, match=r"no schedule costs 0\.1 .* cheapest scale costs 0\.2"):
        oracle.best(harm, COST, SCALES, 0.1)
    with pytest.raises(DditError, match=r"\(3, 2\), 1 costs"):
        oracle.best(harm, COST[:1], SCALES, 0.5)
    with pytest.raises(DditError, match="finite"):
        oracle.best(harm * np.nan, COST, SCALES, 0.5)
    assert oracle.best(harm, COST, SCALES, 1.0) == oracle.Schedule((1, 1, 1), 0.0, 1.0)


def test_no_shared_schedule_beats_one_for_each_prompt() -> None:
    table = table_of()
    own = np.mean([o.harm for o in table.per_prompt(0.6)])
    assert own <= table.shared(0.6).harm + 1e-12


def test_steps_between_are_interpolated_and_measured_ones_kept() -> None:
    harm = np.full((1, 5, 1), np.nan)
    harm[0, 1, 0], harm[0, 3, 0] = 1e-2, 1e-4
    assert fill_steps(harm)[0, :, 0] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-4])


@given(st.lists(st.tuples(st.floats(0.01, 9), st.floats(1e-6, 1)), min_size=4, max_size=12))
@settings(deadline=None, max_examples=50)
def test_harm_never_falls_with_the_signal(pairs: list[tuple[float, float]]) -> None:
    signal = np.asarray([[s] * 3 for s, _ in pairs])
    harm = np.asarray([[h, h / 2, h / 3] for _, h in pairs])
    signal[:, 0] = np.nan
    for t, table in enumerate(step_tables(harm, signal)):
        assert list(table.harm) == sorted(table.harm)
        assert table.marginal == pytest.approx(harm[:, t].mean())
        assert len(table.edges) == (0 if t == 0 else min(4, len(pairs) // 2) - 1)


def test_the_fit_finds_the_order_and_keeps_the_mean() -> None:
    table = table_of()
    assert best_order(table) == 2
    found = fit([table], honest)
    assert (found.order, found.scales, found.cost) == (2, SCALES, {2: 0.45, 4: 0.2})
    step = found.runs[0].tables[2][4]
    assert len(step.harm) == 4
    assert step.harm[0] < step.harm[-1]
    assert np.mean(step.harm) == pytest.approx(step.marginal)  # eight prompts, two a bin
    assert found.runs[0].tables[2][0].edges == ()
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_prices_turn_more_and_more_steps() -> None:
    tables = {2: step_tables(table_of().harm[:, :, 0], table_of().signals[2][:, :, 0])}
    grid = prices(tables, {2: 0.45}, 5)
    assert grid == sorted(grid)
    assert len(grid) == 5
    with pytest.raises(DditError, match="nothing to calibrate"):
        prices(tables, {2: 1.2}, 5)


def test_the_curve_is_made_monotone() -> None:
    points = curve([1, 2, 3], [(0.2, 0.9), (0.1, 0.7), (0.4, 0.8)])
    assert [p.harm for p in points] == pytest.approx([0.15, 0.15, 0.4])
    assert [p.cost for p in points] == pytest.approx([0.9, 0.75, 0.75])


def test_a_knob_is_read_off_the_curve_and_is_monotone() -> None:
    points = tuple(
        CurvePoint(price=p, harm=h, cost=c) for p, h, c in ((0, 0, 1), (1, 0.1, 0.8), (3, 0.3, 0.4))
    )
    table = StepTable(harm=(0.1,), marginal=0.1)
    run = Run(steps=1, tables={2: (table,)}, curve=points)
    assert run.price("harm", 0.2) == pytest.approx(2)
    assert run.price("cost", 0.6) == pytest.approx(2)
    assert (run.price("harm", 0), run.price("harm", 9)) == (0, 3)
    assert (run.price("cost", 1), run.price("cost", 0.1)) == (0, 3)
    for knob, sign in (("harm", 1), ("cost", -1)):
        found = [sign * run.price(knob, v) for v in np.linspace(0, 1, 50)]  # type: ignore[arg-type]
        assert found == sorted(found)


def test_the_gap_is_a_share_of_the_way_to_the_oracle() -> None:
    low, high = [(0.5, [20.0, 22.0, 24.0])], [(0.5, [30.0, 32.0, 34.0])]
    half = gap(0.5, [25.0, 27.0, 29.0], low, high)
    assert half.share.value == pytest.approx(0.5)
    assert half.over_fixed.value == pytest.approx(5) == half.below_oracle.value
    assert gap(0.5, [25.0, 27.0, 29.0], high, high).share is None
    assert at_cost(0.75, low) == pytest.approx([40, 41, 42])  # half-way to the base
    assert quality([0.0, 1e-2]) == pytest.approx([CAP, 20])
    rows = additivity({"a": [0.1, 0.2, 0.0]}, {"a": [0.2, 0.4, 0.0]})
    assert rows[0].ratio.value == pytest.approx(2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no calibration at"),
        ("{", "is not JSON"),
        ("[]", "is no calibration"),
        ('{"order": 1}', r"is no calibration \(cost: Field required\)"),
    ],
)
def test_a_broken_calibration_names_the_file_and_the_remedy(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(DditError, match=words) as error:
        load(tmp_path)
    assert str(tmp_path / FILE) in str(error.value)
    assert "ddit-eval calibrate" in str(error.value)


def test_a_table_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match="must not fall"):
        StepTable(edges=(1.0,), harm=(0.2, 0.1), marginal=0.15)
    with pytest.raises(ValueError, match="1 edges make 2 bins, not 3"):
        StepTable(edges=(1.0,), harm=(0.1, 0.2, 0.3), marginal=0.15)


@pytest.fixture(scope="module")
def bench(tiny: Any) -> Any:
    from ddit_eval.experiment.generate import Generator
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.oracle.bench import Bench

    experiment = tiny.experiment(steps=5, adapter=str(tiny.adapter))
    with Generator(Setting(experiment)) as generator:
        bench = Bench(generator, batch=2)
        # Beside so small a transformer the adapter's convolutions are dear; let scales cost as in earnest.
        bench.cost = dict(zip(SCALES, COST, strict=True))
        yield bench


def test_a_restart_is_the_run_itself(bench: Any) -> None:
    from ddit_eval.ddit.policies import Explicit
    from ddit_eval.experiment.prompts import load_prompts
    from ddit_eval.oracle.calibrate import CALIBRATION
    from ddit_eval.oracle.measure import draw, restart, trajectory

    jobs = bench.jobs(load_prompts(CALIBRATION)[:2], 5)
    base = trajectory(bench.generator, jobs)
    for step in (0, 2, 4):
        again = restart(bench.generator, jobs, base, step, [1] * (5 - step))
        assert np.array_equal(again, base.pictures)
    whole = draw(bench.generator, jobs, Explicit(scales=(1, 1, 2, 1, 1)))
    assert np.array_equal(restart(bench.generator, jobs, base, 2, (2, 1, 1)), whole)
    assert not np.array_equal(whole, base.pictures)


def test_signals_are_those_that_a_policy_sees(bench: Any) -> None:
    from ddit_eval.ddit.policies import Threshold
    from ddit_eval.experiment.prompts import load_prompts
    from ddit_eval.oracle.calibrate import CALIBRATION
    from ddit_eval.oracle.measure import draw, signals_of, trajectory

    jobs = bench.jobs(load_prompts(CALIBRATION)[:1], 5)
    found = signals_of(bench.generator, trajectory(bench.generator, jobs), 32, 32, 0.4)
    draw(bench.generator, jobs, Threshold(tau=1e-30, order=2))
    seen = [step.signals for step in bench.generator.handle.trace]
    assert seen[:2] == [None, None]
    assert found[2][0][:2] == [[None, None]] * 2
    for step, values in zip(seen[2:], found[2][0][2:], strict=True):
        assert step is not None
        assert list(step.values()) == pytest.approx(values, rel=1e-4)


def test_a_measurement_goes_on_after_a_kill(bench: Any, tmp_path: Path) -> None:
    from ddit_eval.experiment.prompts import load_prompts
    from ddit_eval.oracle.calibrate import CALIBRATION

    prompts = load_prompts(CALIBRATION)[:3]
    whole = bench.table(prompts, 5, tmp_path / "whole")
    assert whole.harm.shape == (3, 5, 2)
    assert (whole.harm > 0).all()

    class Killed(Exception):
        pass

    def kill(done: int, total: int, label: str) -> None:
        if "step 3" in label:
            raise Killed

    with pytest.raises(Killed):
        bench.table(prompts, 5, tmp_path / "cut", progress=kill)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut").rglob("step*.json")}
    assert len(kept) == 4
    again = bench.table(prompts, 5, tmp_path / "cut")
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in kept.items())
    assert np.array_equal(again.harm, whole.harm)
    assert all(np.array_equal(again.signals[k], v, equal_nan=True) for k, v in whole.signals.items())
    labels: list[str] = []
    bench.table(prompts, 5, tmp_path / "cut", progress=lambda d, t, label: labels.append(label))
    assert labels == []  # nothing is left to do


def test_from_pipeline_to_oracle(bench: Any, tmp_path: Path) -> None:
    from ddit_eval.ddit.policies import Calibrated
    from ddit_eval.experiment.config import Oracle
    from ddit_eval.experiment.prompts import load_prompts
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.figures import save
    from ddit_eval.figures.oracle import WAYS, oracle_figure
    from ddit_eval.oracle.calibrate import CALIBRATION, calibrate
    from ddit_eval.oracle.compare import compare, foreign
    from ddit_eval.schema import read, write
    from ddit_eval.system.files import write_json

    prompts = load_prompts(CALIBRATION)[:4]
    found, tables = calibrate(bench, prompts, [5, 3], tmp_path / "state", points=3)
    assert [run.steps for run in found.runs] == [5, 3] == [table.steps for table in tables]
    again, _ = calibrate(bench, prompts, [5, 3], tmp_path / "state", points=3)
    assert again == found

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / FILE, found.model_dump(mode="json"))
    policy = Calibrated.from_pretrained(adapter, cost=0.8)
    assert policy.digest == found.digest
    coarse = Calibrated(calibration=found, price=1e9)
    _, cost = bench.alone(prompts[:1], 5, [coarse])
    assert cost == pytest.approx([min(bench.cost.values())])

    settings = Oracle(prompts=3, costs=(0.8, 0.6), every=2)
    bench.setting = Setting(bench.setting.experiment.model_copy(update={"oracle": settings}))
    content = compare(bench, found, tmp_path / "state", tuning=prompts[:1])
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "state").rglob("*.json")}
    next(p for p in kept if p.name.startswith("row-")).unlink()  # as if it had been killed there
    again = compare(bench, found, tmp_path / "state", tuning=prompts[:1])
    assert again == content
    assert sum(p.stat().st_mtime_ns != stamp for p, stamp in kept.items()) == 1
    shared = compare(bench, found, tmp_path / "two", tuning=prompts[:1], workers=2)
    for ours, theirs in zip(shared.rows, content.rows, strict=True):
        assert (ours.name, ours.cost) == (theirs.name, theirs.cost)
        assert ours.psnr.value == pytest.approx(theirs.psnr.value, rel=1e-3)
    write(tmp_path / "oracle.json", content)
    assert read(tmp_path / "oracle.json", type(content)) == content
    assert {row.family for row in content.rows} == set(WAYS)
    assert all(0 < row.cost <= 1 for row in content.rows)
    own = next(row.of.policy for row in content.rows if row.family == "oracle")
    assert own["kind"] in ("oracle", "explicit")
    assert {row.name for row in content.additivity} >= {"oracle-80", "shared-60", "random-80"}
    assert len(content.gap) == 3 * 2 * 4
    assert foreign(found, bench) == []
    old = found.model_copy(update={"made": found.made | {"adapter_hash": "0" * 12}})
    assert foreign(old, bench) == ["adapter"]
    with pytest.raises(DditError, match=r"measured on another adapter; .* `ddit-eval calibrate`"):
        compare(bench, old, tmp_path / "state")
    written = save(oracle_figure(content), tmp_path / "oracle")
    assert written.stat().st_size > 10_000


def test_the_commands_write_what_they_say(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml
    from typer.testing import CliRunner

    from ddit_eval.cli import app
    from ddit_eval.experiment import setting

    monkeypatch.setattr(setting, "flop_table", lambda *_: {1: 100, 2: 45, 4: 20})
    out, state, results = (str(tmp_path / name) for name in ("out", "state", "results"))
    options = ["--model", tiny.model, "--adapter", tiny.adapter, "--side", 32, "--steps", 3, "--prompts", 2]
    command = ["calibrate", *map(str, options), "--out", out, "--state", state]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "best schedules of 3 steps" in done.output
    assert load(out).made["adapter"] == str(tiny.adapter)
    experiment = tmp_path / "small.yaml"
    settings = {"prompts": 2, "costs": [0.7], "calibration": out}
    table = tiny.data() | {"profile": "small", "steps": 3, "oracle": settings}
    experiment.write_text(yaml.safe_dump(table))
    command = ["oracle", str(experiment), "--results", results, "--state", state]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads((tmp_path / "results/small/oracle.json").read_text())
    assert content["calibration"] == load(out).digest
    settings["calibration"] = str(tmp_path / "nowhere")
    experiment.write_text(yaml.safe_dump(table | {"oracle": settings}))
    missing = CliRunner().invoke(app, command)
    assert "ddit-eval calibrate" in str(missing.exception)
