"""Every shipped result file, damaged place by place: refused in one line, or nothing has changed."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import belongs
from ddit_eval.experiment.config import load_experiment
from ddit_eval.judging.results import load
from ddit_eval.schema import Frontier, Oracle, Quality, Study, Timing, Traces, read
from ddit_eval.schema.measured import Stage
from ddit_eval.schema.model import CHECKSUM, ResultFile
from ddit_eval.system.files import digest
from ddit_eval.tracking.plan import training

ROOT = Path(__file__).parents[2]
MODELS: tuple[type[ResultFile], ...] = (Quality, Timing, Study, Oracle, Traces, Frontier)
FILES = {
    file: model
    for profile in ("quick", "quick-video")
    for model in MODELS
    if (file := ROOT / "results" / profile / getattr(model, "file", "traces.json")).exists()
}
VALUES = (None, "x", -1, math.nan, 1e308, 10**400, [], {}, True)
GONE = object()
CASES = 200  # a file
Place = tuple[str | int, ...]


def short(value: Any) -> Any:
    """With the first and the last of each list only, so that many cases take little time."""
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return [short(item) for item in (value[:1] + value[1:][-1:])] if isinstance(value, list) else value


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def changed(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value at a place, or with none."""
    made = copy.copy(value)
    if len(place) > 1:
        made[place[0]] = changed(value[place[0]], place[1:], new)
    elif new is GONE:
        del made[place[0]]
    else:
        made[place[0]] = new
    return made


def damaged(plain: Any) -> Iterator[Any]:
    cases = [(place, new) for place in places(plain) for new in (GONE, *VALUES)]
    for place, new in random.Random(0).sample(cases, min(CASES, len(cases))):
        yield changed(plain, place, new)


def one_line(error: DditError, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("source", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_damage_to_a_result_is_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    """Where the checksum is left; and where it was made to fit, what the model takes can be judged."""
    model, path = FILES[source], tmp_path / source.name
    plain = json.loads(source.read_text())
    del plain[CHECKSUM]
    if model is Oracle:  # rows that the shortened gap names
        names = {plain["gap"][0]["name"], plain["gap"][-1]["name"]}
        plain["rows"] = [row for row in plain["rows"] if row["name"] in names]
    plain = plain if model is Study else short(plain)
    checksum = digest(plain, 64)
    path.write_text(json.dumps(plain | {CHECKSUM: checksum}))
    whole = read(path, model)
    experiment = load_experiment(ROOT / "experiments" / f"{source.parent.name}.yaml")
    quality = whole if isinstance(whole, Quality) else read(source.parent / "quality.json", Quality)
    for made in damaged(plain):
        path.write_text(json.dumps(made | {CHECKSUM: checksum}))
        try:
            assert read(path, model) == whole
        except DditError as error:
            one_line(error, path)
        path.write_text(json.dumps(made | {CHECKSUM: digest(made, 64)}))
        try:
            content = read(path, model)
        except DditError as error:
            one_line(error, path)
            continue
        if isinstance(content, Stage):
            files = {content.file.removesuffix(".json"): content}
            with contextlib.suppress(DditError):
                belongs(**{"quality": quality, "experiment": experiment} | files)  # type: ignore[arg-type]


@pytest.mark.parametrize("adapter", ["mini-flux", "mini-wan"])
def test_damage_to_an_adapters_errors_is_refused_in_one_line(adapter: str, tmp_path: Path) -> None:
    """They bear no checksum of their own: the adapter's hash covers them."""
    plain = short(json.loads((ROOT / f"ddit_eval/weights/adapters/{adapter}/errors.json").read_text()))
    for made in damaged(plain):
        (tmp_path / "errors.json").write_text(json.dumps(made))
        try:
            training(tmp_path)
        except DditError as error:
            one_line(error, tmp_path / "errors.json")


def test_a_link_to_nothing_is_no_file_that_is_missing(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "results" / "quick", tmp_path / "quick")
    (folder / "oracle.json").unlink()
    assert load(folder).oracle is None
    (folder / "oracle.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DditError, match=r"oracle\.json is missing.*ddit-eval oracle"):
        load(folder)
