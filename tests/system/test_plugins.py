"""What other packages add: found by entry point, or refused in one line that names the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddit_eval.ddit.policies import Base
from ddit_eval.errors import DditError
from ddit_eval.system.plugins import plugins, source_of
from tests.support.plugins import install, write_metadata

GROUP = "ddit_eval.tested"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.cache_clear()
    return tmp_path


def test_what_an_installed_package_names_is_found(site: Path) -> None:
    (site / "outsider.py").write_text("class Thing:\n    size = 3\n")
    write_metadata(site, "outsider", "1.0", {GROUP: {"thing": "outsider:Thing"}})
    assert plugins(GROUP, ("size",))["thing"].size == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere:Thing", "cannot be loaded: .*: No module named 'nowhere'; mend or uninstall broken-one"),
        ("leaves:Thing", "cannot be loaded: SystemExit: 3; mend"),
        ("talks:Thing", "cannot be loaded: RuntimeError: one two; mend"),
        ("half:Missing", "cannot be loaded: .*Missing.*; mend or uninstall broken-one"),
        ("half:Thing", "lacks shape, colour; see the protocol that ddit_eval.tested documents"),
    ],
)
def test_a_broken_one_is_one_clear_error(site: Path, value: str, message: str) -> None:
    (site / "half.py").write_text("class Thing:\n    size = 3\n")
    (site / "leaves.py").write_text("raise SystemExit(3)\n")
    (site / "talks.py").write_text("raise RuntimeError('one\\n  two')\n")
    write_metadata(site, "broken-one", "1.0", {GROUP: {"thing": value}})
    with pytest.raises(DditError, match=message) as error:
        plugins(GROUP, ("size", "shape", "colour"))
    assert str(error.value).startswith("entry point 'thing' of broken-one in ddit_eval.tested")
    assert "\n" not in str(error.value)


def test_a_name_that_ships_is_not_taken_in_silence(site: Path) -> None:
    (site / "outsider.py").write_text("class Thing:\n    size = 3\n")
    write_metadata(site, "outsider", "1.0", {GROUP: {"thing": "outsider:Thing"}})
    with pytest.raises(DditError, match=r"'thing' of outsider .* takes a name that ships"):
        plugins(GROUP, ("size",), ("thing",))


def test_two_packages_do_not_share_a_name(site: Path) -> None:
    (site / "outsider.py").write_text("class Thing:\n    size = 3\n")
    for package in ("one", "other"):
        write_metadata(site, package, "1.0", {GROUP: {"thing": "outsider:Thing"}})
    with pytest.raises(DditError, match=r"'thing' of \w+ .* takes a name that another package has"):
        plugins(GROUP, ("size",))


def test_the_source_of_what_came_from_outside(site: Path) -> None:
    (site / "outsider.py").write_text("class Thing:\n    size = 3\n")
    write_metadata(site, "outsider", "1.0", {GROUP: {"thing": "outsider:Thing"}})
    made = plugins(GROUP, ("size",))["thing"]
    assert source_of(made) == source_of(made()) == "class Thing:\n    size = 3\n"
    assert source_of(Base()) is None


def test_the_example_is_a_project_that_can_be_installed(site: Path) -> None:
    paths = install(site)
    assert (Path(paths[1]) / "ddit_example.py").is_file()
    assert (site / "ddit_example-0.1.0.dist-info" / "entry_points.txt").read_text().count(
        "ddit_example:"
    ) == 2
