"""A folder of films: gifs, films or folders of frames, read one at a time, for a set may be larger than the
memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics.films.frames import FILMS, read
from ddit_eval.metrics.sets.reference import PictureSet, hash_of_files
from ddit_eval.system.pictures import SUFFIXES, files_in
from ddit_eval.system.read import natural
from ddit_eval.system.text import by_eye


@dataclass(frozen=True)
class FilmFolder:
    """The films of a folder by name, in the order of the names."""

    folder: Path
    files: dict[str, Path]
    of: Literal["films"] = "films"

    @cached_property
    def hash(self) -> str:
        """Of the content of all files, frames of a folder in the order of their names."""
        return hash_of_files(
            file
            for path in self.files.values()
            for file in (files_in(path, SUFFIXES).values() if path.is_dir() else [path])
        )

    @cached_property
    def size(self) -> tuple[int, ...]:
        return tuple(read(next(iter(self.files.values()))).frames.shape)

    def batches(self) -> Iterator[tuple[Tensor, float | None]]:
        """A film at a time, (1, F, 3, H, W), and its frames a second."""
        for path in self.files.values():
            film = read(path)
            yield film.frames[None], film.fps

    def check(self) -> None:
        """Raise one `DditError` that names every film which cannot be read or is not like most others, and
        counts them: a measure of those that are left would not be of the folder."""
        wrong: dict[str, str] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        rates: dict[str, float | None] = {}
        for name, path in self.files.items():
            try:
                film = read(path)
            except DditError as error:
                wrong[name] = str(error)
                continue
            shapes[name], rates[name] = tuple(film.frames.shape), film.fps
        for found, what in ((shapes, "frames, colours, height, width"), (rates, "frames a second")):
            usual = Counter(found.values()).most_common(1)[0][0] if found else None
            wrong |= {n: f"{what} {v}, most have {usual}" for n, v in found.items() if v != usual}
        if wrong:
            some = "; ".join(f"{self.files[name]}: {why}" for name, why in list(wrong.items())[:5])
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise DditError(
                f"{len(wrong)} of {len(self.files)} films cannot be measured with the others: {some}{more}. "
                "Mend them or take them away"
            )

    def as_set(self) -> tuple[PictureSet, list[str]]:
        """All frames as one set, and the film that each frame is of."""
        films = [name for name, path in self.files.items() for _ in read(path).frames]

        def frames() -> Iterator[Tensor]:
            return (read(path).frames for path in self.files.values())

        return PictureSet(f"frames of {self.folder}", self.hash, len(films), frames), films


def film_folder(folder: Path) -> FilmFolder | None:
    """The folder's films; None where it holds none."""
    if not folder.is_dir():
        return None
    files = files_in(folder, (".gif", *FILMS))
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and files_in(path, SUFFIXES):
            if (name := by_eye(path.name)) in files:
                raise DditError(f"{files[name]} and {path} have the same name; keep one of them")
            files[name] = path
    return (
        FilmFolder(folder, dict(sorted(files.items(), key=lambda item: natural(item[0])))) if files else None
    )
