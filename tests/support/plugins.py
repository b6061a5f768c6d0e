"""Packages that add to this one, as if installed: their metadata and their modules on a path."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

PLUGIN = Path(__file__).parent / "plugin"


def install(site: Path, project: Path = PLUGIN) -> list[str]:
    """What an installer leaves of a project in `site`; the folders to put on the path."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    write_metadata(site, about["name"], about["version"], about["entry-points"])
    return [str(site), str(project)]


def write_metadata(site: Path, name: str, version: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """The .dist-info of a package with these entry points, by group."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, named in points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in named.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
