"""The code of docs/architecture.md does what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ddit_eval.ddit import policies
from tests.support.plugins import PLUGIN

TEXT = (Path(__file__).parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A block as a module."""

    def module(name: str) -> Any:
        (tmp_path / f"doc_{name}.py").write_text(BLOCKS[name])
        monkeypatch.syspath_prepend(str(tmp_path))
        return import_module(f"doc_{name}")

    return module


def test_the_metric_measures(written: Callable[[str], Any]) -> None:
    pictures = torch.stack([torch.zeros(3, 4, 4), torch.rand(3, 4, 4)])
    flat, rough = written("metric").METRIC(pictures)["contrast"]
    assert flat == 0 < rough


def test_the_policy_decides(written: Callable[[str], Any]) -> None:
    policy = written("policy").FineEnds()
    policies.check(policy)
    assert [policy.decide(policies.StepView(i, 4)) for i in range(4)] == [1, 2, 2, 1]


def test_the_family_owns_its_transformer(written: Callable[[str], Any]) -> None:
    family = written("family").MyFlux()
    named = type("MyFluxTransformer2DModel", (torch.nn.Module,), {})
    assert family.owns(named())
    assert not family.owns(torch.nn.Linear(1, 1))


def test_the_package_is_the_one_in_the_tests() -> None:
    assert BLOCKS["module"] == (PLUGIN / "ddit_example.py").read_text()
    assert BLOCKS["pyproject"].strip() in (PLUGIN / "pyproject.toml").read_text()
