"""What the dashboard gets to show of a trial."""

from __future__ import annotations

import io
import os
import re
import runpy
from dataclasses import replace
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from optuna.artifacts import FileSystemArtifactStore
from PIL import Image

from ddit_eval.experiment.config import Method, Study
from ddit_eval.study.measure import Score
from ddit_eval.study.pictures import side_by_side
from ddit_eval.study.storage import Location
from ddit_eval.study.worker import run
from tests.support.fake_evaluator import FakeEvaluator

SPACE = Study(trials=2, prompts=2, confirm=0, floor=1000.0)


class Painter(FakeEvaluator):
    def measure(self, method: Method, prompt: int) -> Score:
        picture, base = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
        return replace(super().measure(method, prompt), picture=picture, base=base)


def test_the_dashboard_serves_pictures_and_schedule(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    study = run(Location(str(tmp_path / "s.journal"), "s", artifacts=folder), SPACE, Painter)
    assert len(list(folder.iterdir())) == 2 * SPACE.trials
    app = optuna_dashboard.wsgi(study._storage, artifact_store=FileSystemArtifactStore(str(folder)))

    def get(path: str) -> tuple[str, bytes]:
        environ: dict[str, object] = {}
        setup_testing_defaults(environ)
        status: list[str] = []
        body = app(environ | {"PATH_INFO": path}, lambda line, headers, *_: status.append(line))
        return status[0], b"".join(body)

    for trial in study.trials:
        note = optuna_dashboard.get_note(optuna.trial.Trial(study, trial._trial_id))
        paths = re.findall(r"\]\((/artifacts/[^)]+)\)", note)
        assert len(paths) == 2
        sizes = []
        for path in paths:
            status, body = get(path)
            assert status.startswith("200")
            sizes.append(Image.open(io.BytesIO(body)).size)
        assert sizes[0] == (256, 256)
        assert trial.system_attrs["constraints"][0] > 0  # shown as infeasible


def test_it_opens_what_the_variable_names_or_the_newest_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(Path(__file__).parents[2] / "experiments" / "dashboard.py"))["main"]
    shown: list[list[str]] = []
    monkeypatch.setattr(
        optuna_dashboard, "run_server",
        lambda storage, **options: shown.append([s.study_name for s in storage.get_all_studies()]),
    )  # fmt: skip
    monkeypatch.delenv("DDIT_STUDY_STORAGE", raising=False)
    with pytest.raises(SystemExit, match="no study yet"):
        main(tmp_path)
    for age, name in enumerate(("new", "old")):
        Location(str(tmp_path / f"{name}.journal"), name).open()
        os.utime(tmp_path / f"{name}.journal", (9 - age, 9 - age))
    main(tmp_path)
    monkeypatch.setenv("DDIT_STUDY_STORAGE", str(tmp_path / "old.journal"))
    main(tmp_path)
    monkeypatch.setenv("DDIT_STUDY_STORAGE", "nope://user:password@host")
    with pytest.raises(SystemExit, match="nope://host cannot be reached"):
        main(tmp_path)
    assert shown == [["new"], ["old"]]


def test_base_above_and_trial_below() -> None:
    score = Painter().measure(Method(name="base", steps=4), 0)
    strip = side_by_side([score])
    assert strip is not None
    assert strip.getpixel((5, 5)) == (0, 0, 255)
    assert strip.getpixel((5, 250)) == (255, 0, 0)
    assert side_by_side([Score(1.0, 1.0)]) is None
