"""Picture files as every viewer shows them: the one reader of all that measures, trains and draws.

Turned as the camera says, in sRGB, what is transparent on white.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from ddit_eval.errors import DditError
from ddit_eval.system.read import check_regular, natural
from ddit_eval.system.text import by_eye

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# By content, not by ending; others, of which some start programs, are not tried.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")


def files_in(folder: Path, suffixes: Collection[str], paired: bool = True) -> dict[str, Path]:
    """The files of a folder (not below it) by the name that a person reads, less its ending, as one counts.

    Hidden files and folders are passed over. Raises `DditError` where one is no file, and where two have one
    name, unless nothing is `paired` by it: then the endings stay.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda path: (natural(by_eye(path.name)), path.name))
    except OSError as error:
        raise DditError(f"{folder} cannot be read as a folder: {error.strerror}") from error
    files: dict[str, Path] = {}
    for path in found:
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir():
            check_regular(path)
            if (name := by_eye(path.stem if paired else path.name)) in files:
                raise DditError(f"{files[name]} and {path.name} have the same name; keep one of them")
            files[name] = path
    return files


def read_levels(path: Path, moving: bool = False) -> NDArray[np.uint8]:
    """A picture's 8-bit levels, (H, W, 3); of one that may be `moving`, the first frame's.

    Raises `DditError` naming what is broken, deeper or moves.
    """
    with readable(path), Image.open(path, formats=_FORMATS) as image:
        image.verify()  # the checksums of a PNG, which loading passes over
    with readable(path), Image.open(path, formats=_FORMATS) as image:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # its other is a preview
        if count > 1 and not moving:
            raise DditError(f"{path} holds {count} pictures; save the one that is meant alone")
        return levels_of(image, path)


def levels_of(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) of an open picture or of a film's frame that stands."""
    # Its loader cuts deep colours to 8 bits and says so only in what it is about to unpack.
    tiles: list[Any] = getattr(image, "tile", [])
    packings = [str(tile.args if isinstance(tile.args, str) else (tile.args or "-")[0]) for tile in tiles]
    deep = any(re.search(r"^(?!BGR;).*;(1[0-6]|32|64)", packing) for packing in packings)
    if image.mode.startswith(("I", "F")) or deep:
        raise DditError(f"{path} has more than 8 bits a channel: save it with 8")
    profile = image.info.get("icc_profile")
    if image.mode not in _MODES or (image.mode == "CMYK" and not profile):
        raise DditError(f"{path} has the colours {image.mode}, without a profile: save it as sRGB")
    upright = ImageOps.exif_transpose(image)
    alpha = upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None
    flat = upright.convert({"LA": "L", "L": "L", "CMYK": "CMYK"}.get(upright.mode, "RGB"))
    flat = _srgb(flat, profile) if profile else flat.convert("RGB")
    if alpha is not None:
        flat = Image.composite(flat, Image.new("RGB", flat.size, "white"), alpha)
    return np.array(flat)


def _srgb(image: Image.Image, profile: bytes) -> Image.Image:
    known = ImageCms.ImageCmsProfile(BytesIO(profile))
    if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(known):
        return image
    if image.mode != "CMYK" and known.profile.xcolor_space.strip() != {"L": "GRAY"}.get(image.mode, "RGB"):
        return image.convert("RGB")  # of other colours than the picture's: viewers pass it over
    shown = ImageCms.profileToProfile(image, known, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert shown is not None
    return shown


@contextmanager
def readable(path: Path, what: str = "a picture") -> Iterator[None]:
    """Where a file is opened: whatever it raises, of bombs and broken parts too, becomes one `DditError`."""
    check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (DditError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file raises, the remedy is the same
        why = str(error).replace("\n", " ") or type(error).__name__
        raise DditError(f"{path} cannot be read as {what}: {why}; restore or remove it") from error
