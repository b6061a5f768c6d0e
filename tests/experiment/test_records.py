from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.ddit.policies import Base, Fixed
from ddit_eval.errors import DditError
from ddit_eval.experiment.records import Store, _bare, code_hash, code_of
from ddit_eval.system import files, read
from tests.support.jobs import JOB, PICTURE, STEP


def test_a_record_comes_back_with_its_picture(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load(JOB.key) is None
    saved = store.save(JOB, PICTURE, [STEP])
    assert store.load(JOB.key) == saved
    assert (store.levels(saved) == PICTURE).all()
    assert saved.trace == (STEP,)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{JOB.key}.json", f"{JOB.key}.png"]


@pytest.mark.parametrize(
    "change",
    [
        {"model_hash": "x"},
        {"adapter_hash": None},
        {"dtype": "bfloat16"},
        {"policy": {"kind": "fixed", "scale": 2}},
        {"steps": 5},
        {"height": 16},
        {"guidance_scale": 4.0},
        {"seed": 8},
        {"prompt": "a blue star"},
        {"repeat": 1},
        {"code": "other"},
        {"batch": "of four"},
    ],
)
def test_the_key_depends_on_all_that_decides_a_sample(change: dict[str, Any]) -> None:
    assert JOB.model_copy(update=change).key != JOB.key


@pytest.mark.parametrize(
    "change",
    [{"method": "renamed"}, {"index": 5}, {"model": "n"}],
)
def test_and_on_no_name(change: dict[str, Any]) -> None:
    assert JOB.model_copy(update=change).key == JOB.key
    assert len(JOB.key) == 20


def edited(**changes: Any) -> Callable[[Path, Path], None]:
    def edit(record: Path, _: Path) -> None:
        record.write_text(json.dumps(json.loads(record.read_text()) | changes))

    return edit


def flipped(_: Path, picture: Path) -> None:
    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(data)


def another(_: Path, picture: Path) -> None:
    picture.unlink()
    picture.symlink_to(picture.with_name(f"{OTHER.key}.png"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


OTHER = JOB.model_copy(update={"seed": 9})
DAMAGES: dict[str, Callable[[Path, Path], Any]] = {
    "a torn record": lambda record, _: record.write_bytes(record.read_bytes()[:-40]),
    "no text": lambda record, _: record.write_bytes(b"\xff\xfe\x00"),
    "another's key": edited(key="0" * 20),
    "another's record": lambda record, _: shutil.copy(record.with_stem(OTHER.key), record),
    "another prompt": edited(prompt="a blue star"),
    "a picture elsewhere": edited(image="/etc/passwd"),
    "frames without end": edited(frames=1_000_000_000),
    "another trace": edited(trace=[]),
    "another name": edited(method="ddit"),
    "a wrong type": edited(trace=7),
    "no picture": lambda _, picture: picture.unlink(),
    "a torn picture": lambda _, picture: picture.write_bytes(picture.read_bytes()[:-10]),
    "an empty picture": lambda _, picture: picture.write_bytes(b""),
    "a flipped bit": flipped,
    "another's picture": another,
    "a pipe for a record": lambda record, _: pipe(record),
    "a pipe for a picture": lambda _, picture: pipe(picture),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_as_it_was_written_is_refused_with_the_remedy(
    tmp_path: Path, damage: Callable[[Path, Path], Any]
) -> None:
    store = Store(tmp_path)
    store.save(OTHER, PICTURE + 1, [STEP])
    record = store.save(JOB, PICTURE, [STEP])
    damage(tmp_path / f"{JOB.key}.json", tmp_path / f"{JOB.key}.png")
    with pytest.raises(DditError, match=f"(?s){JOB.key}.*ddit-eval run"):
        store.load(JOB.key)
    for path in tmp_path.iterdir():
        if path.is_fifo():  # what is no file is not written over
            with pytest.raises(DditError, match="that is no file"):
                store.save(JOB, PICTURE, [STEP])
            path.unlink()
    store.save(JOB, PICTURE, [STEP])
    assert store.load(JOB.key) == record


def test_two_that_write_the_same_sample_at_once_leave_one_whole_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, replace_file, inside = Store(tmp_path), os.replace, []

    def meanwhile(source: Any, target: Any) -> None:
        if not inside:  # the other one writes all of it before the first of our two files is there
            inside.append(target)
            monkeypatch.setattr(files.os, "getpid", lambda: -1)
            store.save(JOB, PICTURE, [STEP])
            assert store.load(JOB.key)
        replace_file(source, target)

    monkeypatch.setattr(files.os, "replace", meanwhile)
    record = store.save(JOB, PICTURE, [STEP])
    assert store.load(JOB.key) == record
    assert len(list(tmp_path.iterdir())) == 2


def test_a_kill_between_picture_and_record_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, replace_file = Store(tmp_path), os.replace

    def killed(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.save(JOB, PICTURE, [STEP])
    assert (tmp_path / f"{JOB.key}.png").exists()
    assert store.load(JOB.key) is None


def test_a_full_disk_is_one_error_that_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DditError, match="No space left") as caught:
        Store(tmp_path).save(JOB, PICTURE, [STEP])
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DditError, match=r"cannot write .*file/inside"):
        files.check_writable(tmp_path / "file" / "inside")


def test_files_refuse_what_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"value": float("inf")})
    with pytest.raises(DditError, match=r"b\.json is missing"):
        read.read_json(tmp_path / "b.json")


def test_the_code_hash_is_blind_to_comments_and_layout() -> None:
    one = 'def f(x):\n    """Doc."""\n    # why\n    return x + 1\n'
    two = "def f( x ):\n    return (x +\n      1)\n"
    assert _bare(one) == _bare(two) != _bare(two.replace("1", "2"))
    assert len(code_hash()) == 12
    assert code_hash() == code_hash("ddit") != code_hash("ddit", "models")
    with pytest.raises(ValueError, match="no code"):
        code_hash("nothing")


def test_the_code_of_a_policy_from_outside_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_of(Base(), Fixed(2)) == code_hash()
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "outside_rule.py"
    source = "from ddit_eval.ddit.policies import Fixed\n\nclass Rule(Fixed):\n    pass\n"
    file.write_text(source)
    rule = import_module("outside_rule").Rule(2)
    first = code_of(rule)
    assert first != code_hash()
    file.write_text(source + "    order = 0\n")
    assert code_of(rule) not in (first, code_hash())
