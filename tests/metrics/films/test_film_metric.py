"""What film metrics say of themselves, by names, networks and weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError
from ddit_eval.metrics import registry
from ddit_eval.metrics.checkpoints import Weights
from ddit_eval.metrics.films import metric, smoothness
from ddit_eval.metrics.films.frames import Film, film_of
from tests.support.films import drive, flat

REAL = [
    "motion_smoothness",
    "dynamic_degree",
    "subject_consistency",
    "background_consistency",
    "aesthetic_quality",
    "imaging_quality",
    "overall_consistency",
]


# The registry.


def test_every_metric_says_what_it_is() -> None:
    for name in metrics.names("films"):
        about = metrics.get(name)
        if not isinstance(about, metric.FilmMetric):
            continue
        assert about.name == name
        assert about.describe()[name]["source"]
        assert about.describe()[name]["direction"] == "higher"
        dimension, _, label = name.partition("-")
        if label:
            assert "stand-in" in str(about.note), name
            assert about.network != metric.NETWORKS[dimension]
        else:
            assert about.network == metric.NETWORKS[dimension]


def test_without_weights_no_metric_bears_the_real_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    film = drive(1.0)
    for name in REAL:
        why = metrics.missing("films")[name]
        assert why is not None, name
        assert name in why
        with pytest.raises(DditError):
            metrics.get(name).value(film, "a red star")
    assert metrics.missing("films")["temporal_flickering"] is None
    assert metrics.get("dynamic_degree").describe()["dynamic_degree"]["weights"] == {
        "raft_large_C_T_V1-22a6c225.pth": None
    }
    assert str(tmp_path / "checkpoints" / "raft_large_C_T_V1-22a6c225.pth") in str(
        metrics.missing("films")["dynamic_degree"]
    )


def test_a_network_given_by_hand_takes_the_name_only_if_it_is_the_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    blend = lambda a, b: (a + b) / 2  # noqa: E731
    with pytest.raises(DditError, match="AMT-S"):
        smoothness.motion_smoothness_metric(blend, "blend of the neighbours")
    metrics.register(smoothness.motion_smoothness_metric(blend, "blend of the neighbours", "blend"))
    assert metrics.get("motion_smoothness-blend").value(film_of(flat([0, 0.5, 0]))) == pytest.approx(0.5)
    metrics.register(smoothness.motion_smoothness_metric(blend, "AMT-S"))  # the caller's word for it
    assert metrics.missing("films")["motion_smoothness"] is None
    with pytest.raises(DditError, match="already"):
        metrics.register(smoothness.motion_smoothness_metric(blend, "AMT-S"))
    with pytest.raises(DditError, match="unknown metric"):
        metrics.get("fvd")


def test_values_of_films_go_to_an_interval() -> None:
    films = torch.stack([flat([0.5, 0.5 + d]) for d in (0.1, 0.2, 0.3)])
    flicker = metrics.get("temporal_flickering")
    values = flicker(films)["temporal_flickering"]
    assert values == pytest.approx([0.9, 0.8, 0.7])
    assert values == [flicker.value(Film(film)) for film in films]
    interval = stats.mean(values)
    assert interval.n == 3
    assert interval.low < 0.8 < interval.high
    with pytest.raises(DditError, match="N, F, 3, H, W"):
        flicker(films[0])
    with pytest.raises(DditError, match="one prompt a film"):
        metrics.get("overall_consistency-clip-world")(films, None, ["a star"])


def test_weights_are_checked_and_read_as_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    one = Weights("one.pth", "1 kB", "here", "00000000", "do without")
    assert "one.pth (1 kB, here, SHA-256 00000000...) belongs at" in str(one.missing("m"))
    torch.save({"weight": torch.ones(2)}, one.path())
    assert "SHA-256" in str(one.missing("m"))
    with pytest.raises(DditError, match="copy it again"):
        one.load()
    right = dataclasses.replace(one, sha256=str(one.found())[:8])
    assert right.missing("m") is None
    assert right.load()["weight"].tolist() == [1, 1]
    code = dataclasses.replace(one, file="code.pth", sha256=None)
    torch.save({"weight": Path("x")}, code.path())
    with pytest.raises(DditError, match="does not load"):
        code.load()
