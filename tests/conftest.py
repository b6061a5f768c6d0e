"""Fixtures that several files share: a tiny pipeline and its adapter on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def settings() -> dict[str, Any]:
    """What decides the bits of everything that this process computes; empty before diffusers is imported."""
    if "diffusers" not in sys.modules:
        return {}
    from ddit_eval.rivals.remains import settings_of_process

    return settings_of_process()


@pytest.fixture(autouse=True)
def process_left_as_it_was() -> Iterator[None]:
    """Which tests share a process is chance: none may decide the bits of another."""
    before = settings()
    yield
    assert not before or settings() == before


@dataclass(frozen=True)
class TinyFolders:
    """What an experiment on the tiny pipeline needs."""

    model: Path
    adapter: Path

    def experiment(self, **changes: Any) -> Any:
        """A small experiment; `changes` are as in the yaml."""
        from ddit_eval.experiment.config import parse_experiment

        return parse_experiment(self.data() | changes, "test")

    def data(self) -> dict[str, Any]:
        return {
            "profile": "tiny",
            "model": str(self.model),
            "adapter": str(self.adapter),
            "side": 32,
            "steps": 4,
            "prompts": {"source": "world", "count": 3},
            "metrics": ["psnr"],
            "methods": [
                {"name": "base"},
                {"name": "base-again"},
                {"name": "steps-2", "steps": 2},
                {"name": "always-2p", "policy": {"kind": "fixed", "scale": 2}},
                {"name": "ddit", "policy": {"kind": "threshold", "tau": 0.05, "order": 1}},
            ],
            "study": {"trials": 5, "prompts": 1, "steps": [2, 4]},
            "timing": {"prompts": 2, "rounds": 1, "most": 1, "whole": 1},
        }


class TinyVideoFolders(TinyFolders):
    """The same for clips."""

    def data(self) -> dict[str, Any]:
        return super().data() | {
            "frames": 9,
            "guidance_scale": 3.0,
            "prompts": {"source": "moving-world", "count": 2},
            "metrics": ["psnr", "adherence", "motion-adherence", "temporal_flickering"],
        }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyFolders:
    from ddit_eval.ddit.adapter.adapter import Adapter
    from tests.support.tiny import tiny_flux

    root = tmp_path_factory.mktemp("tiny")
    pipe = tiny_flux()
    pipe.save_pretrained(root / "model")
    Adapter.from_base(pipe, rank=4).save_pretrained(root / "adapter")
    return TinyFolders(root / "model", root / "adapter")


@pytest.fixture(scope="session")
def tiny_video(tmp_path_factory: pytest.TempPathFactory) -> TinyVideoFolders:
    from ddit_eval.ddit.adapter.adapter import Adapter
    from tests.support.tiny_wan import tiny_wan

    root = tmp_path_factory.mktemp("tiny-video")
    pipe = tiny_wan()
    pipe.save_pretrained(root / "model")
    Adapter.from_base(pipe, rank=4, detail="analytic").save_pretrained(root / "adapter")
    return TinyVideoFolders(root / "model", root / "adapter")


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that are not wrapped, whatever width the console found when it was made."""
    from ddit_eval.system.progress import stdout

    monkeypatch.setattr(stdout, "width", 300)
