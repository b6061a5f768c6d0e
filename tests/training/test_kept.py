"""What a training keeps: it goes on after a kill anywhere, and is never mixed with another one's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddit_eval.errors import DditError
from ddit_eval.schema.distillation import load
from ddit_eval.system.lock import alone
from ddit_eval.system.workers import threads
from ddit_eval.training.distil import DistilConfig, distil, inputs_of, run
from tests.support.tiny import tiny_flux

STATE = Path("checkpoint") / "state.safetensors"
FINAL = ("adapter.safetensors", "config.json", "errors.json")


class Killed(BaseException):
    pass


def config(out: Path, **changes: Any) -> DistilConfig:
    settings: dict[str, Any] = {
        "model": "tiny", "out": out, "rank": 2, "scales": (2,), "source": {"side": 32},
        "pictures": 6, "batch": 2, "detail": {"width": 8, "depth": 1, "features": 2},
        "text_tokens": 8, "probe_pictures": 2, "checkpoint_minutes": 1e-6,
    }  # fmt: skip
    return DistilConfig.model_validate(settings | changes)


def train(settings: DistilConfig) -> int:
    """Steps that were taken."""
    with threads(1):
        return len(list(distil(settings, tiny_flux())))


def ended(out: Path) -> list[bytes]:
    """The files of an adapter, less its folder's name and what was measured by a clock."""
    record = json.loads((out / "errors.json").read_text())
    assert record.pop("seconds") > 0
    del record["checksum"], record["config"]["out"]
    return [*((out / name).read_bytes() for name in FINAL[:2]), json.dumps(record).encode()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert train(config(out)) == 3
    return out


def test_killed_at_every_write_it_ends_as_if_it_had_not_been(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0  # writes that last before one kills

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*args)

        return write

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, deadly(getattr(os, name)))
    # Both of: the test whether the folder takes files, three checkpoints; the adapter's two; errors.json.
    for allowed in (1, 2, 3, 4, 6, 2, 3, 4, 5):
        left = allowed
        with pytest.raises(Killed):
            train(config(tmp_path / "out"))
    left = 9
    assert train(config(tmp_path / "out")) == 0
    assert ended(tmp_path / "out") == ended(whole)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"checkpoint", *FINAL}


def test_a_finished_training_is_left_alone_and_another_is_refused(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    assert train(config(whole, checkpoint_minutes=5)) == 0
    with monkeypatch.context() as several:
        several.setenv("WORLD_SIZE", "2")
        assert train(config(whole)) == 0
    for change, named in (
        ({"lr": 0.01}, r"lr is 0\.001 there and 0\.01 now.*another `out`, or remove"),
        ({"source": {"side": 32, "seed": 3}}, r"source\.seed is 0 there and 3 now"),
        ({"pictures": 16}, "pictures is 6 there and 16 now"),
    ):
        with pytest.raises(DditError, match=named):
            train(config(whole, **change))
    with pytest.raises(DditError, match=r"model\.weights is .* there"):
        list(distil(config(whole), tiny_flux(seed=1)))
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_checkpoint_of_another_training_is_refused(whole: Path, tmp_path: Path) -> None:
    part = distil(config(tmp_path), tiny_flux())
    next(part), next(part)
    part.close()
    with pytest.raises(DditError, match=r"state\.safetensors is of another training: lr is 0\.001 there"):
        train(config(tmp_path, lr=0.01))


@pytest.mark.parametrize("where", [9, 0.1, 0.5, 0.99, None])
def test_a_damaged_checkpoint_is_named(whole: Path, tmp_path: Path, where: float | None) -> None:
    """A bit of its header, of a tensor; cut short."""
    data = bytearray((whole / STATE).read_bytes())
    if where is None:
        data = data[: len(data) // 2]
    else:
        data[int(where if where > 1 else where * len(data))] ^= 4
    (tmp_path / STATE).parent.mkdir()
    (tmp_path / STATE).write_bytes(data)
    with pytest.raises(DditError, match=r"state\.safetensors is damaged.*remove .*checkpoint"):
        train(config(tmp_path))


def test_errors_belong_to_their_adapter(whole: Path, tmp_path: Path) -> None:
    for name in FINAL:
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    file = tmp_path / "errors.json"
    assert load(file, tmp_path)
    torn = json.loads(file.read_text())
    file.write_text(json.dumps(torn | {"n": 64}))
    with pytest.raises(DditError, match="not as it was written"):
        load(file, tmp_path)
    with pytest.raises(DditError, match="holds the adapter of an unknown training"):
        train(config(tmp_path))
    file.write_text(json.dumps(torn))
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text() + " ")
    with pytest.raises(DditError, match="of an adapter with other files"):
        load(file, tmp_path)


def test_one_training_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "checkpoint", "training"), pytest.raises(DditError, match="another training is at"):
        train(config(tmp_path))


def test_an_out_that_is_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DditError, match=r"cannot write .*out"):
        train(config(tmp_path / "out"))


def test_pictures_are_asked_for_before_a_model_and_their_content_counts(tmp_path: Path) -> None:
    settings = config(tmp_path / "out", source={"kind": "folder", "path": tmp_path / "pictures", "side": 32})
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DditError, match="holds no picture"):
        next(distil(settings))  # there is no model of that name either
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "0.png")
    digests = []
    for caption in ("a red star", "a blue star"):
        (tmp_path / "pictures" / "0.txt").write_text(caption)
        digests.append(inputs_of(settings, object())["pictures"])
    assert digests[0] != digests[1]


def test_what_is_known_of_the_inputs_is_not_hashed_again(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(config(whole), pipe := tiny_flux())
    monkeypatch.setattr(run, "digests_of", None)
    assert list(distil(config(whole), pipe, inputs)) == []


def test_a_rate_that_diverges_is_named(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"the loss is (nan|inf) in step \d.*lower `lr`"):
        train(config(tmp_path, lr=1e30))
