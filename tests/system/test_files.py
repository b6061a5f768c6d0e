"""A full disk is one line that names the path; the old file stays, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from ddit_eval.errors import DditError
from ddit_eval.system import files
from ddit_eval.system.files import check_place, write_bytes, write_json
from ddit_eval.system.films import write_film, write_sample


def _figure(path: Path) -> None:
    from ddit_eval import figures

    figures.save(figures.schedule_heatmap([[1, 2]]), path.with_suffix(""))


def _checkpoint(path: Path) -> None:
    import torch

    from ddit_eval.training import checkpoint

    net = torch.nn.Linear(2, 2)
    checkpoint.save(path.parent, {"net": net}, torch.optim.SGD(net.parameters()), {}, {})


FRAMES = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
WRITERS = {
    "a.txt": lambda path: write_bytes(path, b"new"),
    "a.json": lambda path: write_json(path, {}),
    "a.png": lambda path: write_sample(FRAMES[:1], path.with_suffix(""), 8),
    "a.gif": lambda path: write_film(FRAMES, path, 8),
    "a.mp4": lambda path: write_film(FRAMES, path, 8),
    "b.png": _figure,
    "state.safetensors": _checkpoint,
}


@pytest.mark.parametrize("fails", ["fsync", "replace"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name: str, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.endswith(".mp4"):
        pytest.importorskip("av")
    path = tmp_path / name
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, fails, full)
    with pytest.raises(DditError, match=f"{name}: No space left on device. Make"):
        WRITERS[name](path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_no_file_is_not_replaced(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DditError, match="no file"):
        WRITERS[name](tmp_path / name)
    with pytest.raises(DditError, match="no file"):
        check_place(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).is_fifo()
