"""Reading what others wrote."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.system import files, read
from ddit_eval.system.files import HERE


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, what in [(pipe, "a pipe"), (tmp_path, "a folder"), (tmp_path / "none", "No such file")]:
        with pytest.raises(DditError, match=what):
            read.read_bytes(path)


def test_text_loses_its_mark_and_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffä\u2028b\n".encode())
    assert read.read_text(path) == "ä\u2028b\n"
    path.write_bytes("a\nä".encode("latin-1"))
    with pytest.raises(DditError, match=r"a\.txt, line 2, is not UTF-8; save it as UTF-8"):
        read.read_text(path)


def test_only_line_ends_end_a_line() -> None:
    assert read.lines("a\u2028b\x0bc\x85d\r\ne\rf\n\n") == ["a\u2028b\x0bc\x85d", "e", "f", ""]
    assert [read.lines(text) for text in ("", "a", "a\r\n", "a\r", "\n")] == [[], *[["a"]] * 3, [""]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "nests too deep"),
        (b"\xff", "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"{", "not JSON"),
    ],
)
def test_json_means_one_thing(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DditError, match=why) as error:
        read.read_json(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_digest_is_of_the_whole_file_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(2**21))
    first = read.file_digest(path)
    assert read.file_digest(path) == first
    with path.open("r+b") as file:
        file.seek(2**20)
        file.write(b"x")
    os.utime(path, ns=(1, 1))
    assert read.file_digest(path) != first
    (tmp_path / "link").symlink_to(path)
    assert read.file_digest(tmp_path / "link") == read.file_digest(path)


def test_a_large_file_whose_name_is_no_unicode_has_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(read, "LARGE", 0)
    path = tmp_path / os.fsdecode(b"\xff")
    path.write_bytes(b"x")
    assert read.file_digest(path) == hashlib.sha256(b"x").hexdigest()


def test_no_network_has_such_numbers_but_a_tokenizer_may_have_no_limit(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_max_length": int(1e30)}))  # as transformers writes it
    assert read.read_object(path, "copy it again") == {"model_max_length": int(1e30)}
    path.write_text(json.dumps({"hidden_size": 10**9}))
    with pytest.raises(DditError, match=r"hidden_size is 1000000000, which no network has: copy it again"):
        read.read_object(path, "copy it again")


def test_names_sort_as_a_person_counts() -> None:
    names = [f"{n}.png" for n in range(12)]
    assert sorted(sorted(names), key=read.natural) == names


def test_only_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    dead = tmp_path / "in" / f".a.json.{HERE}.999999999.tmp"
    alive = tmp_path / f".b.json.{HERE}.{os.getpid()}.tmp"
    dead.parent.mkdir()
    another = tmp_path / ".a.json.00000000.999999999.tmp"  # of a machine that shares the folder
    for path in [dead, alive, another, tmp_path / f".write-test-{HERE}.999999999", tmp_path / "c.json"]:
        path.touch()
    assert files.sweep(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, another.name, "c.json", "in"])
