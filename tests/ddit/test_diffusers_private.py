"""diffusers' private parts: in one module, of known versions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import ddit_eval
from ddit_eval import DditError
from ddit_eval.ddit import diffusers_private as private

OBJECTS = "pipe|_pipe|module|registry|manager|hook|transformer|vae|guider|scheduler"


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(private, "version", lambda name: "0.99.0")
    private.warn_unless_known.cache_clear()
    yield
    private.warn_unless_known.cache_clear()


class Pipe:
    _execution_device = "cpu"


def test_the_installed_version_is_known() -> None:
    private.warn_unless_known.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert private.execution_device(Pipe()).type == "cpu"


def test_another_version_warns_once_where_a_part_is_needed(another: None) -> None:
    with pytest.warns(UserWarning, match=r"diffusers 0\.99\.0: .* known of 0\.42 only.*==0\.42"):
        private.execution_device(Pipe())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        private.execution_device(Pipe())


@pytest.mark.filterwarnings("ignore:diffusers 0.99")
def test_a_part_that_is_gone_is_named(another: None) -> None:
    with pytest.raises(DditError, match=r"diffusers 0\.99\.0 has no Pipe\._pack_latents; install"):
        private.pack_latents(Pipe(), 1)


def test_no_other_module_touches_them() -> None:
    root = Path(ddit_eval.__file__).parent
    touched = [
        f"{path.relative_to(root)}: {match.group(0)}"
        for path in root.rglob("*.py")
        if path.name != "diffusers_private.py"
        for match in re.finditer(
            rf"\b({OBJECTS})\._[a-z]\w*|diffusers\.hooks|_diffusers_hook", path.read_text()
        )
    ]
    assert touched == []
