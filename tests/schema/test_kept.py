from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddit_eval.errors import DditError
from ddit_eval.schema.kept import kept

VALUE = [0.1, {"2": [1e-300, None]}]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_text(""),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "of an older version": lambda path: path.write_text("[0.1, 0.2]"),
    "another number": lambda path: path.write_text(path.read_text().replace("0.1", "0.2")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_kept_is_measured_once_and_anew_where_it_is_damaged(
    tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    path, made = tmp_path / "row.json", []

    def make() -> Any:
        made.append(1)
        return VALUE

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [kept(path, make), kept(path, make)] == [VALUE, VALUE]
    whole = path.read_bytes()
    damage(path)
    with pytest.warns(UserWarning, match=r"row\.json is not as it was written and is made anew"):
        assert kept(path, make) == VALUE
    assert (len(made), path.read_bytes()) == (2, whole)


def test_what_may_not_be_read_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "row.json"
    kept(path, lambda: VALUE)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read all
    with pytest.raises(DditError, match=r"row\.json cannot be read: Permission denied; make it readable"):
        kept(path, lambda: 1)
