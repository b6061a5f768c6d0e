from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddit_eval.advise import advise
from ddit_eval.experiment.config import Method
from ddit_eval.schema import Frontier, read


@pytest.fixture
def config(tiny: Any) -> Any:
    asked = {"speed_ups": [1.5, 2], "trials": 5, "prompts": 2, "heldout": 3, "solver": ["own"]}
    methods = [m for m in tiny.data()["methods"] if m["name"] != "base-again"]
    return tiny.experiment(methods=methods, advise=asked, steps=6)


def test_the_answer_names_ways_measured_on_prompts_that_none_was_picked_on(
    config: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    folders = (tmp_path / "results", tmp_path / "runs", tmp_path / "state")
    frontier = advise(config, *folders, say=said.append)
    assert said[0].startswith("about ")
    assert read(tmp_path / "results" / "frontier.json", Frontier) == frontier
    assert [target.speed_up for target in frontier.targets] == [1.5, 2.0]
    assert set(frontier.trials.values()) == {5}
    for target in frontier.targets:
        assert target.best_without_coarse is not None
        assert not target.best_without_coarse.coarse
        assert target.best is not None
        assert set(target.gain) == set(target.best.quality) == {"psnr"}
        assert target.best.quality["psnr"].n == frontier.heldout == 3
        assert target.best.tuned["psnr"].n == frontier.tuning == 2
        Method.model_validate({"name": "again"} | target.best.row)  # what a YAML takes
    assert advise(config, *folders) == frontier  # what was tried and timed once is not again
