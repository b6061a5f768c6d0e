"""Files that do not belong together are refused, and each fact of an experiment is found once a command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment import setting as facts
from ddit_eval.experiment.belongs import belongs
from ddit_eval.experiment.evaluate import evaluate
from ddit_eval.experiment.generate import generate
from ddit_eval.experiment.time import time_experiment
from ddit_eval.schema import Quality, Timing, read
from tests.support import fake_results

METHODS = [{"name": "base"}, {"name": "rule", "policy": {"kind": "fixed", "scale": 2}}]


def experiment(tiny: Any, **changes: Any) -> Any:
    ours = {"methods": METHODS, "prompts": {"source": "world", "count": 2}, "metrics": ["psnr", "ssim"]}
    return tiny.experiment(**ours | changes)


@pytest.fixture(scope="module")
def results(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Quality, Timing]:
    folder, ours = tmp_path_factory.mktemp("belongs"), experiment(tiny)
    generate(ours, folder / "runs")
    return evaluate(ours, folder / "runs", folder), time_experiment(ours, folder / "timing.json")


def test_what_was_made_together_belongs_together(tiny: Any, results: tuple[Quality, Timing]) -> None:
    quality, timing = results
    belongs(quality, experiment=experiment(tiny), timing=timing)
    assert {row.of.digest for row in quality.rows} == {row.of.digest for row in timing.rows if row.of}


def test_a_policy_edited_run_and_evaluated_without_timing_is_refused(
    tiny: Any, results: tuple[Quality, Timing], tmp_path: Path
) -> None:
    rule = {"name": "rule", "policy": {"kind": "fixed", "scale": 4}}
    edited = experiment(tiny, methods=[METHODS[0], rule])
    quality, timing = results
    with pytest.raises(
        DditError, match=r"row 'rule' .* policy.scale is 4 in the experiment and 2 in quality"
    ):
        belongs(quality, experiment=edited)
    generate(edited, tmp_path / "runs")
    quality = evaluate(edited, tmp_path / "runs", tmp_path)
    belongs(quality, experiment=edited)
    says = r"timing.json, row 'rule' .* policy.scale is 2 in timing.json and 4 .* `ddit-eval time"
    with pytest.raises(DditError, match=says):
        belongs(quality, experiment=edited, timing=timing)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 3}, "steps is 3 in the experiment and 4 in quality.json"),
        ({"guidance_scale": 2.0}, "guidance_scale is 2.0"),
        ({"side": 64}, r"size is \(64, 64\)"),
        ({"adapter": None}, "adapter is None"),
        ({"prompts": {"source": "world", "count": 2, "seed": 5}}, "prompts is"),
        ({"methods": METHODS[:1]}, "the experiment has no method 'rule'"),
        ({"methods": [*METHODS, {"name": "more"}]}, "no row 'more'"),
        ({"reference": "rule"}, "reference is 'rule'"),
        ({"metrics": ["psnr"]}, "metrics is .* in the experiment and .* in quality.json"),
        ({"sets": {"reference": "folder"}}, "sets is .* in the experiment and None in quality.json"),
        ({"profile": "other"}, "profile is 'other' in the experiment"),
    ],
)
def test_a_yaml_edited_since_is_refused(
    tiny: Any, results: tuple[Quality, Timing], change: dict[str, Any], says: str
) -> None:
    with pytest.raises(DditError, match=says) as caught:
        belongs(results[0], experiment=experiment(tiny, **change))
    assert "ddit-eval evaluate" in str(caught.value)


def test_a_timing_of_other_weights_is_refused(results: tuple[Quality, Timing]) -> None:
    quality, timing = results
    base = timing.rows[0]
    assert base.of is not None
    other = base.model_copy(update={"of": base.of.model_copy(update={"model_hash": "0"})})
    with pytest.raises(DditError, match=r"row 'base' .* model_hash is '0' in timing"):
        belongs(quality, timing=timing.model_copy(update={"rows": (other, *timing.rows[1:])}))
    with pytest.raises(DditError, match=r"timing.json .* it has no row 'rule'"):
        belongs(quality, timing=timing.model_copy(update={"rows": timing.rows[:1]}))
    with pytest.raises(DditError, match="has no such row"):
        belongs(quality.model_copy(update={"rows": quality.rows[:1]}), timing=timing)


def test_what_decides_nothing_makes_nothing_stale(tiny: Any, results: tuple[Quality, Timing]) -> None:
    quality, timing = results
    same = {"metrics": ["ssim", "psnr"], "methods": METHODS[::-1], "batch": 2, "study": {"trials": 3}}
    belongs(quality, experiment=experiment(tiny, **same), timing=timing)


def test_a_part_of_the_yaml_that_decided_a_file_is_compared_with_it(
    tiny: Any, results: tuple[Quality, Timing]
) -> None:
    quality, timing = results
    says = r"timing.json .* timing.rounds is 7 in the experiment and \d in timing.json.* `ddit-eval time"
    with pytest.raises(DditError, match=says):
        belongs(quality, experiment=experiment(tiny, timing={"rounds": 7}), timing=timing)
    silent = timing.model_copy(update={"asked": {}})
    with pytest.raises(DditError, match=r"timing.json .* does not say what was asked"):
        belongs(quality, experiment=experiment(tiny), timing=silent)
    with pytest.raises(
        DditError, match=r"timing.json .* profile is 'tiny' in quality.json and 'other' in timing"
    ):
        belongs(quality, timing=timing.model_copy(update={"asked": timing.asked | {"profile": "other"}}))


def test_every_trial_and_every_row_is_compared(tmp_path: Path) -> None:
    quality = read(fake_results.write(tmp_path, prompts=4, trials=3) / "quality.json", Quality)
    study, oracle = fake_results.study(3, np.random.default_rng(0)), fake_results.oracle()
    belongs(quality, study=study, oracle=oracle)

    def of_another(row: Any) -> Any:
        return row.model_copy(update={"of": row.of.model_copy(update={"adapter_hash": "0"})})

    trials = (*study.trials[:-1], of_another(study.trials[-1]))
    with pytest.raises(DditError, match=r"study.json, trial 2 .* adapter_hash is '0' .* `ddit-eval study"):
        belongs(quality, study=study.model_copy(update={"trials": trials}))
    rows = (*oracle.rows[:-1], of_another(oracle.rows[-1]))
    with pytest.raises(DditError, match=r"oracle.json, row 'fine-first-70' .* `ddit-eval oracle"):
        belongs(quality, oracle=oracle.model_copy(update={"rows": rows}))


def test_weights_prompts_and_costs_are_found_once_a_command(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            calls[name] += 1
            return function(*args)

        return counted

    for name in ("fingerprint", "load_prompts", "flop_table"):
        monkeypatch.setattr(facts, name, counting(name, getattr(facts, name)))
    generate(experiment(tiny), tmp_path / "runs")
    assert calls == {"fingerprint": 2, "load_prompts": 1, "flop_table": 1}  # a model and its adapter
    calls.clear()
    time_experiment(experiment(tiny), tmp_path / "timing.json")
    assert calls == {"fingerprint": 2, "load_prompts": 1, "flop_table": 1}
