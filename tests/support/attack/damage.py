"""Ways to damage a file, by kind: each a function of its bytes and a random generator."""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

Damage = Callable[[bytes, Random], bytes]
RAW = "@@raw@@"  # stands in a tree for text that no value would give
HOSTILE = ["", "-1", "nan", "inf", "1e999", "=1+1", "[/x]", "$x_{$", "\u2028", '"', "\0", "9" * 400]


def _at(data: bytes, rng: Random) -> int:
    return rng.randrange(len(data)) if data else 0


def _flip(data: bytes, rng: Random, within: int | None = None) -> bytes:
    at = _at(data[:within], rng)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else data


def _zeroed(data: bytes, rng: Random) -> bytes:
    at, length = _at(data, rng), rng.choice([1, 16, 512])
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def _inserted(data: bytes, rng: Random, what: bytes | None = None) -> bytes:
    at = _at(data, rng)
    return data[:at] + (what or rng.randbytes(rng.choice([1, 7, 300]))) + data[at:]


BYTES: dict[str, Damage] = {
    "a bit": _flip,
    "a bit of the head": lambda data, rng: _flip(data, rng, 64),
    "cut": lambda data, rng: data[: _at(data, rng)],
    "cut at the end": lambda data, rng: data[: -rng.randint(1, 16)],
    "empty": lambda data, rng: b"",
    "doubled": lambda data, rng: data + data,
    "inserted": _inserted,
    "zeroed": _zeroed,
    "trailing": lambda data, rng: data + rng.randbytes(9),
}
TEXT: dict[str, Damage] = {
    "byte order mark": lambda data, rng: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data, rng: data.decode().encode("utf-16"),
    "Latin-1": lambda data, rng: _inserted(data, rng, "ä".encode("latin-1")),
    "CR LF": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "CR": lambda data, rng: data.replace(b"\n", b"\r"),
    "half a surrogate pair": lambda data, rng: _inserted(data, rng, b"\xed\xa0\x80"),
    "line separator": lambda data, rng: _inserted(data, rng, "\u2028\x0b\x85".encode()),
    "NUL": lambda data, rng: _inserted(data, rng, b"\0"),
}


def _lines(change: Callable[[list[bytes], int, Random], list[bytes]]) -> Damage:
    def damage(data: bytes, rng: Random) -> bytes:
        lines = data.splitlines(keepends=True) or [b"\n"]
        return b"".join(change(lines, rng.randrange(len(lines)), rng))

    return damage


def _word(line: bytes, rng: Random) -> bytes:
    """A cell or word of a line replaced by something hostile."""
    words = list(re.finditer(rb"[^,\t\s]+", line)) or [re.match(rb"", line)]
    word, new = rng.choice(words), rng.choice(HOSTILE).encode()
    return line[: word.start()] + new + line[word.end() :]  # type: ignore[union-attr]


LINES: dict[str, Damage] = {
    "a line dropped": _lines(lambda lines, at, rng: lines[:at] + lines[at + 1 :]),
    "a line twice": _lines(lambda lines, at, rng: [*lines[:at], lines[at], *lines[at:]]),
    "a torn line": _lines(lambda lines, at, rng: [*lines[:at], lines[at][: len(lines[at]) // 2] + b"\n",
                                                  *lines[at + 1 :]]),
    "two lines swapped": _lines(lambda lines, at, rng: [*lines[:at], *lines[at + 1 : at + 2], lines[at],
                                                        *lines[at + 2 :]]),
    "an empty line": _lines(lambda lines, at, rng: [*lines[:at], b"\n", *lines[at:]]),
    "a hostile word": _lines(lambda lines, at, rng: [*lines[:at], _word(lines[at], rng), *lines[at + 1 :]]),
}  # fmt: skip

# What may stand where a value stood, as text.
VALUES = {
    "null": "null", "true": "true", "huge": "1e308", "huge whole": "9" * 30, "vast": "1000000000",
    "minus": "-1", "zero": "0", "half": "0.5", "text": '"x"', "list": "[]", "object": "{}", "no text": '""',
    "lone surrogate": '"\\ud800"', "long": '"' + "x" * 100_000 + '"', "upwards": '"../../etc/passwd"',
    "deep": "[" * 100_000 + "]" * 100_000,
}  # fmt: skip
NUMBERS = {"json": ("NaN", "-Infinity"), "yaml": (".nan", "-.inf")}
SHAPES = ("dropped", "renamed", "double key", "not a number", "infinity", "item twice", "item gone")


def edited(tree: Any, kind: str, rng: Random, grammar: str = "json") -> str:
    """A JSON tree as text, damaged at a node to which a random walk leads."""
    holder = root = {"": tree}
    key: Any = ""
    while isinstance(below := holder[key], dict | list) and below and (holder is root or rng.random() < 0.8):
        holder, key = below, rng.choice(list(below) if isinstance(below, dict) else range(len(below)))
    raw = VALUES.get(kind) or NUMBERS[grammar][kind == "infinity"]
    if kind in ("dropped", "item gone"):
        del holder[key]
    elif kind == "renamed" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == "double key" and isinstance(holder, dict):
        raw = f"{json.dumps(holder[key])}, {json.dumps(str(key))}: {json.dumps(holder[key])}"
        holder[key] = RAW
    elif kind == "item twice" and isinstance(holder, list):
        holder.insert(key, holder[key])
    else:
        holder[key] = RAW
    return json.dumps(root.get("")).replace(f'"{RAW}"', raw)


def _safetensors(data: bytes, kind: str, rng: Random) -> bytes:
    """The header damaged: as a tree, or within a text of its metadata that is JSON itself."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = {k: v for k, v in header.get("__metadata__", {}).items() if v[:1] == "{"}
    if about and rng.random() < 0.5:
        name = rng.choice(sorted(about))
        header["__metadata__"][name] = edited(json.loads(about[name]), kind, rng)
        text = json.dumps(header)
    else:
        text = edited(header, kind, rng)
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data[8 + length :]


def _header_length(data: bytes, rng: Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    wrong = rng.choice([0, length - 1, length + 1, len(data), 10**8 + 1, 2**40, 2**63 - 1])
    return wrong.to_bytes(8, "little") + data[8:]


def _vast_picture(data: bytes, rng: Random) -> bytes:
    """A PNG that claims sides of its own, with the right checksum."""
    head = b"IHDR" + struct.pack(">II", *rng.choice([(2**16, 2**15), (2**20, 2**20), (1, 2**31 - 1), (0, 4)]))
    head += data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


def _durations(data: bytes, rng: Random) -> bytes:
    """A GIF whose first frame lasts as short, all others as long as can be."""
    first, *others = data.split(b"\x21\xf9\x04")
    times = [rng.choice([0, 1]), *[65535] * len(others)]
    return b"\x21\xf9\x04".join(
        [first, *(o[:1] + t.to_bytes(2, "little") + o[3:] for o, t in zip(others, times, strict=False))]
    )


def _place(kind: str, path: Path) -> None:
    """Something that is no file in the file's place, or the file of another format."""
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to("/dev/zero" if kind == "a device" else "nowhere")


PLACES = ("a folder", "a pipe", "a device", "a broken link", "missing")
STRANGERS = {
    "a picture's bytes": b"\x89PNG\r\n\x1a\n" + bytes(40), "JSON of another": b'{"a": [1, 2]}\n',
    "a pickle": b"\x80\x04N.", "a page": b"<!doctype html><title>404</title>\n", "JSON null": b"null",
    "an archive": b"PK\x03\x04" + bytes(60), "a pointer of LFS": b"version https://git-lfs.github.com/spec/v1\n",
}  # fmt: skip


def kinds(path: Path) -> list[str]:
    """The kinds that make sense for a file, by its ending."""
    found = [*BYTES, *STRANGERS]
    if path.suffix != ".policy":  # which is no file, but an option's value
        found += PLACES
    if path.suffix in TREES:
        found += 2 * [*VALUES, *SHAPES]
    if path.suffix in (".json", ".jsonl", ".yaml", ".txt", ".csv", ".tsv", ".journal", ".policy"):
        found += TEXT
    if path.suffix in (".txt", ".csv", ".tsv", ".jsonl", ".journal", ".yaml"):
        found += LINES
    return found + [kind for kind, (ending, _) in SPECIAL.items() if path.suffix == ending]


TREES = (".json", ".jsonl", ".journal", ".yaml", ".policy", ".safetensors")
SPECIAL: dict[str, tuple[str, Damage]] = {
    "vast picture": (".png", _vast_picture),
    "durations": (".gif", _durations),
    "header length": (".safetensors", _header_length),
}


def damage(path: Path, kind: str, rng: Random) -> None:
    """Damage a file where it stands."""
    if kind in PLACES:
        return _place(kind, path)
    data = path.read_bytes()
    if kind in STRANGERS:
        data = STRANGERS[kind]
    elif kind in SPECIAL:
        data = SPECIAL[kind][1](data, rng)
    elif kind in (simple := BYTES | TEXT | LINES):
        data = simple[kind](data, rng)
    elif path.suffix == ".safetensors":
        data = _safetensors(data, kind, rng)
    elif path.suffix in (".jsonl", ".journal"):
        lines = data.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = edited(json.loads(lines[at]), kind, rng).encode()
        data = b"\n".join([*lines, b""])
    elif path.suffix in (".yaml", ".policy"):
        data = edited(yaml.safe_load(data), kind, rng, "yaml").encode()
    else:
        data = edited(json.loads(data), kind, rng).encode()
    path.unlink()  # it may be a second name of the example's own file
    path.write_bytes(data)
