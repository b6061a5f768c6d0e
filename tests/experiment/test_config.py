from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from ddit_eval.ddit.policies import Base, Static, StepView, Threshold
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Method, load_experiment, parse_experiment

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["quick", "quick-video", "full"])
def test_the_shipped_experiments_are_valid(name: str) -> None:
    experiment = load_experiment(ROOT / "experiments" / f"{name}.yaml")
    assert experiment.profile == name
    assert experiment.method("base").policy == Base()
    assert isinstance(experiment.method("ddit-o3").policy, Threshold)


def test_a_null_row_is_a_repeat_and_other_rows_are_not() -> None:
    methods = [{"name": "a"}, {"name": "b"}, {"name": "c", "steps": 5}, {"name": "d", "steps": 24}]
    experiment = parse_experiment({"reference": "a", "methods": methods}, "test")
    assert [experiment.repeat_of(m) for m in experiment.methods] == [0, 1, 0, 2]


BASE: dict[str, Any] = {"methods": [{"name": "base"}]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stepz": 3}, ["stepz", "not a known name"]),
        ({"steps": 0}, ["steps", "got 0"]),
        ({"methods": [{"name": "base"}, {"name": "base"}]}, ["'base'", "twice"]),
        ({"reference": "bass"}, ["'bass'", "base"]),
        (
            {"methods": [{"name": "base", "policy": {"kind": "fixed", "scale": 0}}]},
            ["methods.0", "scale", "0"],
        ),
        ({"methods": [{"name": "base", "policy": {"kind": "threshold", "tau": -1}}]}, ["tau", "-1"]),
        ({"methods": [{"name": "base", "policy": {"kind": "threshold", "tau": 1, "rho": 2}}]}, ["rho", "2"]),
        ({"methods": [{"name": "base", "policy": {"kind": "nonsense"}}]}, ["nonsense"]),
        ({"methods": [{"name": "../x"}]}, ["methods.0.name", "../x"]),
        ({"study": {"tau": [0, 1]}}, ["study", "tau", "above 0"]),
        ({"study": {"rho": [0.8, 0.2]}}, ["rho", "0.8", "empty"]),
        ({"prompts": {"source": "web"}}, ["prompts", "web"]),
        ({"side": 64, "height": 32}, ["side", "not both"]),
        ({"timing": {"methods": ["nobody"]}}, ["'nobody'"]),
        ({"stesp": 3}, ["stesp", "did you mean 'steps'"]),
        ({"study": {"trails": 3}}, ["study.trails", "did you mean 'trials'"]),
        ({"methods": [{"name": "a", "policy": {"kind": "fixed", "scael": 2}}]}, ["'scale'"]),
        ({"methods": [{"name": "base"}, {"name": "Base"}]}, ["twice"]),
        ({"methods": [{"name": "base", "policy": "fixed"}]}, ["methods.0.policy", "kind"]),
        (
            {"methods": [{"name": "base", "policy": {"kind": "explicit", "scales": [1, 2]}}]},
            ["2 scales", "24"],
        ),
        ({"methods": []}, ["methods"]),
        ({"metrics": []}, ["metrics"]),
        ({"metrics": ["psnr", "psnr"]}, ["metrics", "'psnr'", "twice"]),
        ({"profile": ".."}, ["profile", ".."]),
        ({"profile": "a/b"}, ["profile", "a/b"]),
        ({"prompts": {"source": "world", "count": 0}}, ["prompts", "count", "got 0"]),
        ({"sets": {"reference": "x", "networks": []}}, ["sets.networks"]),
        *[({"steps": value}, ["steps", repr(value)]) for value in (-1, 10**9, "4", 4.0, True)],
        *[({"guidance_scale": value}, ["guidance_scale", repr(value)]) for value in (-1, "3", True)],
        *[({key: 0}, [key, "got 0"]) for key in ("batch", "side", "frames", "fps")],
        *[
            ({"timing": {"compile": value}}, ["compile", repr(value), "true or false"])
            for value in ("yes", 1)
        ],
    ],
)
def test_bad_values_are_named_in_one_message(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DditError) as caught:
        parse_experiment(BASE | change, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_policy_of_another_package_that_fails_is_named() -> None:
    class Broken(Static):
        kind: Literal["broken"] = "broken"
        scales: tuple[int, ...] = (2,)

        def decide(self, view: StepView) -> int:
            return 1 // 0

    with pytest.raises(ValueError, match=r"methods: a: the policy 'broken' cannot decide a step \(ZeroDivis"):
        Experiment(reference="a", methods=(Method(name="a", policy=Broken()),))


def test_files_that_are_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(DditError, match="no-such"):
        load_experiment(tmp_path / "no-such.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1")
    with pytest.raises(DditError, match="line 1"):
        load_experiment(bad)
    bad.write_text("just text")
    with pytest.raises(DditError, match="must hold"):
        load_experiment(bad)
