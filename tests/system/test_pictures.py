"""Pictures as every viewer shows them, or refused by name; files by the names that a person reads."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from ddit_eval.errors import DditError
from ddit_eval.system.pictures import SUFFIXES, files_in, read_levels

RED, GREEN = (255, 0, 0), (0, 200, 30)


def picture(size: tuple[int, int] = (6, 4)) -> Image.Image:
    """Green, its upper left pixel red."""
    made = Image.new("RGB", size, GREEN)
    made.putpixel((0, 0), RED)
    return made


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x112] = 6  # to be shown a quarter clockwise
    picture().save(tmp_path / "a.png", exif=turned)
    got = read_levels(tmp_path / "a.png")
    assert got.shape == (6, 4, 3)
    assert tuple(got[0, -1]) == RED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    flat = picture().quantize(2) if mode == "P" else picture().convert(mode)
    if mode in ("RGBA", "LA"):
        flat.putalpha(Image.fromarray(np.where(np.asarray(picture()) == RED, 0, 255).max(2).astype(np.uint8)))
        flat.save(tmp_path / "a.png")
    else:
        flat.save(tmp_path / "a.png", transparency=flat.getpixel((0, 0)))
    got = read_levels(tmp_path / "a.png")
    assert tuple(got[0, 0]) == (255, 255, 255)
    assert tuple(got[1, 1]) == (
        GREEN if mode[0] in "RP" else tuple(picture().convert("L").getpixel((1, 1)) for _ in RED)
    )


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.webp", lossless=True)
    assert read_levels(tmp_path / "a.webp")[0, 0] == pytest.approx(127, abs=1)


def test_a_profile_of_other_colours_than_the_picture_is_passed_over(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = picture().convert("L")
    grey.save(tmp_path / "a.png", icc_profile=profile)  # as Pillow does after a conversion
    np.testing.assert_array_equal(read_levels(tmp_path / "a.png"), np.asarray(grey.convert("RGB")))


def test_colours_of_another_profile_are_converted(tmp_path: Path) -> None:
    known = ImageCms.createProfile("sRGB")
    picture().save(tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(known).tobytes())
    assert (read_levels(tmp_path / "a.png") == np.asarray(picture())).all()
    # The same profile with red and blue changed over.
    data = bytearray(ImageCms.ImageCmsProfile(known).tobytes().replace(b"s\0R\0G\0B", b"o\0t\0h\0e"))
    for at in range(128, 400):
        if data[at : at + 4] in (b"rXYZ", b"bXYZ"):
            data[at] = ord("b") if data[at] == ord("r") else ord("r")
    picture().save(tmp_path / "a.png", icc_profile=bytes(data))
    got = read_levels(tmp_path / "a.png")[0, 0]
    assert got[2] > 250 > 5 > got[0]


def png(depth: int, kind: int, side: int = 4) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    rows = bytes(side * (1 + side * 8)) if side < 99 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def moving(path: Path) -> None:
    picture().save(path, "PNG", save_all=True, append_images=[Image.new("RGB", (6, 4))])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        *[(lambda p, k=kind: p.write_bytes(png(16, k)), "more than 8 bits") for kind in (0, 2, 4, 6)],
        (lambda p: Image.fromarray(np.zeros((4, 4), np.float32)).save(p, "TIFF"), "more than 8 bits"),
        (lambda p: picture().convert("CMYK").save(p, "JPEG"), "CMYK"),
        (lambda p: picture().convert("LAB").save(p, "TIFF"), "LAB"),
        (lambda p: picture().save(p, icc_profile=b"none"), "profile"),
        (moving, "holds 2 pictures"),
        (lambda p: p.write_bytes(png(8, 2, 10_000)), "exceeds limit of"),
        (lambda p: picture().save(p, "EPS"), "cannot identify"),  # it would start a program
        (lambda p: p.write_bytes(b""), "cannot identify"),
        (lambda p: p.write_text("no picture"), "cannot identify"),
        (lambda p: p.write_bytes(png(8, 2)[:-14]), "truncated|broken|corrupt"),
        (lambda p: p.write_bytes(png(8, 2)[:-14] + b"x" + png(8, 2)[-13:]), "broken PNG"),  # its sum
        (os.mkfifo, "a pipe"),
        (lambda p: p.symlink_to("/dev/zero"), "a device"),
        (lambda p: p.symlink_to(p.name), "symbolic links"),
        (lambda p: p.symlink_to("gone"), "No such file"),
    ],
)  # fmt: skip
def test_what_no_viewer_shows_alike_is_refused_in_a_line(tmp_path: Path, make: Any, why: str) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(DditError, match=why) as caught:
        read_levels(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_are_known_by_the_names_that_a_person_reads(tmp_path: Path) -> None:
    names = ["10.PNG", "2.jpeg", "cafe\u0301.png", "a b [x] 100%.webp", "._2.png", ".hidden.png", "Thumbs.db"]
    for name in [*names, "a\nb.jpg", "x" * 251 + ".png", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    got = list(files_in(tmp_path, SUFFIXES))
    assert got == ["2", "10", "a\nb", "a b [x] 100%", "caf\u00e9", "x" * 251]
    for twin in ("2.png", "caf\u00e9.png"):
        (tmp_path / twin).touch()
        with pytest.raises(DditError, match="have the same name"):
            files_in(tmp_path, SUFFIXES)
        (tmp_path / twin).unlink()
    os.mkfifo(tmp_path / "3.png")
    with pytest.raises(DditError, match=r"3\.png is a pipe"):
        files_in(tmp_path, SUFFIXES)
    with pytest.raises(DditError, match="cannot be read as a folder"):
        files_in(tmp_path / "gone", SUFFIXES)
