"""Metrics of other packages: by name everywhere, and one clear error where one lacks something."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ddit_eval import metrics
from ddit_eval.cli import app
from ddit_eval.errors import DditError
from ddit_eval.folders.compare import compare
from ddit_eval.metrics import registry
from ddit_eval.system.plugins import plugins
from tests.support.plugins import write_metadata

CODE = '''
from ddit_eval.metrics import Column, Metric

def light(pixels, reference, prompts):
    return {"light": pixels.flatten(1).mean(1).tolist()}

class Plain:
    """No `Metric`, but all that one needs."""
    of, needs, source = "pictures", "pictures", "the mean of all values"
    columns = (Column("light", "higher", 0, 1, role="score", margin=0.1),)
    measure = staticmethod(light)
    def missing(self):
        return None

class Deaf(Plain):
    missing = None

PLAIN = Plain()
PACE = Metric("x", (Column("pace", "higher", 0, 1),), "pictures",
              lambda films, r, p: {"pace": films.diff(dim=1).abs().flatten(1).mean(1).tolist()},
              source="mean change", of="films")
SHORT = Metric("x", PLAIN.columns, "pictures", lambda *_: {"light": [0.5]}, source="one value")
OTHER = Metric("x", PLAIN.columns, "pictures", lambda p, *_: {"dark": [0.5] * len(p)}, source="dark")
TWICE = Metric("x", (Column("psnr", "higher", 0, 1),), "pictures",
               lambda p, *_: {"psnr": [0.5] * len(p)}, source="a column of another's name")
TEXT = Metric("x", PLAIN.columns, "pictures", lambda p, *_: {"light": ["0.5"] * len(p)}, source="text")
CRASH = Metric("x", PLAIN.columns, "pictures", lambda p, *_: p.view("no", "such"), source="a bug")
NEEDY = type("Needy", (Plain,), {"needs": "luck"})()
BARE = type("Bare", (), {"needs": "pictures"})()
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Installs a package whose metrics are those of CODE, under given names."""

    def install(**points: str) -> None:
        (tmp_path / "outside_metrics.py").write_text(CODE)
        named = {name.replace("_", "-"): f"outside_metrics:{one}" for name, one in points.items()}
        write_metadata(tmp_path, "outside", "1.0", {registry.GROUP: named})
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()

    def forget() -> None:
        plugins.cache_clear()
        registry.outside.cache_clear()
        sys.modules.pop("outside_metrics", None)

    yield install
    monkeypatch.undo()
    forget()


def test_an_outside_metric_is_measured_by_its_name(installed, tmp_path, wide) -> None:
    installed(my_light="PLAIN", pace="PACE")
    assert {"my-light", "psnr"} <= set(metrics.names("pictures"))
    assert "pace" in metrics.names("films")
    pictures = torch.rand(3, 3, 16, 16)
    found = metrics.measure(["my-light", "psnr"], pictures, pictures.flip(0))
    assert found["light"] == pytest.approx(pictures.mean((1, 2, 3)).tolist())
    assert metrics.get("my-light").name == "my-light"
    assert metrics.get("my-light").describe()["light"]["margin"] == 0.1
    films = torch.rand(2, 4, 3, 16, 16)
    found = metrics.measure(["my-light", "pace"], films)  # one of pictures: the mean over frames
    assert found["light"] == pytest.approx(films.mean((1, 2, 3, 4)).tolist())
    assert len(found["pace"]) == 2
    with pytest.raises(DditError, match="pace is a metric of films, and these are pictures"):
        metrics.measure(["pace"], pictures)
    result = CliRunner().invoke(app, ["metrics"])
    assert result.exit_code == 0, result.exception
    assert "light" in result.output
    assert "pace" in result.output
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (16, 16), (80 + i, 10, 10)).save(tmp_path / name / f"{i}.png")
    row = compare(tmp_path / "ours", tmp_path / "theirs", only=["my-light"]).columns["light"]
    assert row.equivalence is not None
    assert row.equivalence.equivalent
    words = ["evaluate", str(tmp_path / "ours"), "--metric", "my-light"]
    assert "light" in CliRunner().invoke(app, words).output


@pytest.mark.parametrize(
    ("name", "one", "says"),
    [
        ("mine", "BARE", r"'mine' of outside .* lacks of, columns, source, measure, missing"),
        ("mine", "NEEDY", r"'mine' of outside in ddit_eval\.metrics .*: needs must be one of .*reference"),
        ("mine", "TWICE", "its column 'psnr' is one of the shipped metric 'psnr'"),
        ("psnr", "PLAIN", "takes a name that ships with ddit_eval"),
        ("mine", "NOTHING", "cannot be loaded"),
    ],
)
def test_what_an_outside_metric_lacks_is_named(installed, name: str, one: str, says: str) -> None:
    installed(**{name: one})
    with pytest.raises(DditError, match=says):
        metrics.get("mine")


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ("SHORT", "'mine' gave 1 values of light for 3 samples"),
        ("OTHER", "'mine' gave dark, and its columns are light"),
        ("TEXT", "'mine' gave '0.5' as a value of light, no number"),
        ("CRASH", r"metric 'mine' failed \(TypeError: [^\n]*\); mend it or leave it out"),
    ],
)
def test_what_an_outside_metric_gives_is_checked(installed, one: str, says: str) -> None:
    installed(mine=one)
    pictures = torch.rand(3, 3, 16, 16)
    with pytest.raises(DditError, match=says):
        metrics.measure(["psnr", "mine"], pictures, pictures.flip(0))
