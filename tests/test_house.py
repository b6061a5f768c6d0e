"""The house itself: what stands where, in the package and in the tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ddit_eval

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ELSEWHERE = {"attack", "pipeline", "recipes", "support"}  # all files, dvc.yaml, experiments/recipes, helpers


def imported(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}


def test_tests_mirror_the_folders() -> None:
    folders = {p.parent.relative_to(ROOT / "tests") for p in TESTS if p.name != "__init__.py"}
    lost = [f for f in folders if not (ROOT / "ddit_eval" / f).is_dir() and f.parts[0] not in ELSEWHERE]
    assert lost == []


def test_no_test_imports_another_and_none_is_long() -> None:
    borrowed = {str(p.relative_to(ROOT)): m for p in TESTS for m in imported(p) if ".test_" in m}
    assert borrowed == {}
    long = {str(p.relative_to(ROOT)): n for p in TESTS if (n := len(p.read_text().splitlines())) > 500}
    assert long == {}


def test_little_lies_loose_at_the_root() -> None:
    loose = {path.name for path in (ROOT / "ddit_eval").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "stats.py"}


@pytest.mark.parametrize(
    "name",
    [
        "attach",
        "Handle",
        "Adapter",
        "load_pipeline",
        "StepTrace",
        "DditError",
        "policies",
        "schedule",
        "metrics",
    ],
)
def test_every_public_name_is_reachable(name: str) -> None:
    assert name in ddit_eval.__all__
    assert name in dir(ddit_eval)
    assert getattr(ddit_eval, name) is not None


def test_what_the_public_modules_hold() -> None:
    assert ddit_eval.policies.Threshold(tau=1e-3).tau == 1e-3
    assert callable(ddit_eval.schedule.finite_difference)
    assert "psnr" in ddit_eval.metrics.names()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddit_eval.nothing
