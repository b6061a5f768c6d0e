"""Every bad command line: one line on stderr, exit code 2, no work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddit_eval import cli
from tests.support.commands import bad_lines, places


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bad")
    found = places(folder)
    Image.new("RGB", (16, 16)).save(Path(found["PICTURES"]) / "0.png")
    return found


def _worked(*_: Any, **__: Any) -> Any:
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize("words", [pytest.param(w, id=ascii(" ".join(w))[1:60]) for w in bad_lines()])
def test_a_bad_line_is_told_in_one(
    words: list[str], made: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from ddit_eval.experiment import generate
    from ddit_eval.training.distil import run

    monkeypatch.chdir(Path(made["FOLDER"]).parent)
    monkeypatch.setattr(generate, "load_pipeline", _worked)
    monkeypatch.setattr(run, "load_pipeline", _worked)
    named = ["/".join([made.get(first, first), *rest]) for first, *rest in (w.split("/") for w in words)]
    monkeypatch.setattr(sys, "argv", ["ddit-eval", *named])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out = capsys.readouterr()
    assert end.value.code == 2, out
    assert out.err.startswith("error: "), out
    assert out.err.count("\n") == 1, out
    assert len(out.err) < 2000, out
