"""What a row may say of its cache, scheduler and setup, and the one line that answers what it may not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import diffusers
import pytest
import yaml

from ddit_eval.ddit.families import FAMILIES
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import parse_experiment
from ddit_eval.experiment.setting import Setting
from ddit_eval.rivals import caches, schedulers
from ddit_eval.rivals.row import Cache, Scheduler
from tests.conftest import TinyFolders

PAGE = (Path(__file__).parents[2] / "docs/rivals.md").read_text(encoding="utf-8")
ROWS = [row for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for row in yaml.safe_load(block)]
FILLED = {"num_inference_steps", "calibrate", "is_guidance_distilled"}  # from the row; callbacks are left out


def parse(*rows: dict[str, Any]) -> Any:
    return parse_experiment({"methods": [{"name": "base"}, *rows]}, "x.yaml")


def test_the_page_shows_rows_that_are_taken() -> None:
    assert [method.name for method in parse(*ROWS).methods[1:]] == [row["name"] for row in ROWS]


def test_the_options_are_those_of_diffusers() -> None:
    for model in get_args(Cache):
        kind = get_args(model.model_fields["kind"].annotation)[0]
        theirs = {field.name for field in dataclasses.fields(getattr(diffusers, caches.CONFIGS[kind]))}
        wanted = {name for name in theirs - FILLED if "callback" not in name and name[0] != "_"}
        assert set(model.model_fields) - {"kind"} == wanted
    assert set(schedulers.KINDS) == set(get_args(Scheduler.model_fields["kind"].annotation))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"cache": "first-block"}, "methods.1.cache: Input should be an object"),
        ({"cache": {"kind": "fist-block"}}, "'fist-block' found using 'kind' does not match"),
        ({"cache": {"kind": "first-block", "treshold": 1}}, "not a known name; did you mean 'threshold'?"),
        ({"cache": {"kind": "mag", "num_inference_steps": 4}}, "not a known name, only kind, mag_ratios"),
        ({"cache": {"kind": "first-block", "threshold": True}}, "should be a valid number (got True)"),
        ({"scheduler": {"kind": "ddim"}}, "should be 'own', 'euler', 'heun', 'dpmpp-2m' or 'unipc'"),
        ({"scheduler": {"kind": "own"}}, "kind: own alone changes nothing"),
        ({"scheduler": {"order": 2}}, "order: 2 is UniPC's"),
        ({"scheduler": {"sigmas": [0.5, 0.6]}}, "sigmas: 0.6 comes after 0.5; noise levels have to fall"),
        ({"scheduler": {"sigmas": [0.5, 0.4]}}, "row: 2 sigmas for 24 steps; give one a step"),
        ({"scheduler": {"sigmas": [1.5]}}, "less than or equal to 1 (got 1.5)"),
        ({"scheduler": {"shift": 2.0, "sigmas": [1.0]}}, "give either `shift` or `sigmas`"),
        ({"setup": "a b"}, "methods.1.setup.call: String should match"),
        ({"setup": {"call": "a:b", "args": {}}}, "setup.args is not a known name, only call, with"),
        ({"setup": 5}, "methods.1.setup: Input should be"),
    ],
)
def test_bad_rows_are_told_in_one_line(row: dict[str, Any], why: str) -> None:
    with pytest.raises(DditError) as caught:
        parse({"name": "row", **row})
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_null_row_is_one_with_the_same_of_all(tiny: TinyFolders) -> None:
    cache = {"cache": {"kind": "first-block"}}
    rows = [{"name": f"row-{i}", **row} for i, row in enumerate(({}, cache, {}, cache))]
    experiment = tiny.experiment(methods=rows, reference="row-0")
    assert [experiment.repeat_of(method) for method in experiment.methods] == [0, 0, 1, 1]
    setting = Setting(experiment)
    jobs = [setting.job(method, setting.prompts[0]) for method in experiment.methods]
    assert jobs[0].key == jobs[2].key != jobs[1].key == jobs[3].key
    assert "cache" not in jobs[0].plain()


def test_models_without_caches_and_models_of_noise_say_so() -> None:
    pixart = getattr(diffusers, FAMILIES["pixart"].class_name)
    why = caches.why_not(diffusers.PixArtAlphaPipeline, pixart, "mag", 2)
    assert why == "PixArtTransformer2DModel has no enable_cache in diffusers"
    own = diffusers.DPMSolverMultistepScheduler()
    with pytest.raises(DditError, match="its model is one of noise, not of a flow"):
        schedulers.another(own, Scheduler(kind="euler"))
