"""One damaged file read in a process of its own, and what is to be said of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from ddit_eval.errors import DditError
from tests.support.attack.damage import damage, kinds
from tests.support.attack.formats import AGAIN, OPTIONAL, Format

LONGEST = 1500  # characters of a message that still is one line
SLACK = 300 * 2**20  # bytes over twice what the undamaged file takes
SECONDS = 8.0  # and six times what the undamaged file takes
VERDICTS = ("refused", "unchanged", "healed", "legally different", "FAILED")


@dataclass(frozen=True)
class Example:
    """A format's example in `folder`, and how it reads undamaged."""

    format: Format
    folder: Path
    digest: str
    seconds: float
    memory: int


@dataclass(frozen=True)
class Case:
    """A damage that `seed` and `number` fix, and what came of it."""

    format: str
    number: int
    file: str
    kind: str
    verdict: str
    why: str = ""


def prepare(format: Format, folder: Path) -> Example:
    """Make the example and read a copy of it; an example that does not read is an error."""
    folder.mkdir(parents=True)
    format.make(folder)
    began = time.monotonic()
    found = _forked(format, _copy(folder, folder.with_name("undamaged")), 120.0, 8 * 2**30)
    if found.get("end") != "read" or found["warnings"]:
        raise RuntimeError(f"the example of {format.name} does not read: {found}")
    return Example(format, folder, found["digest"], time.monotonic() - began, found["memory"])


def attack(example: Example, seed: int, number: int, scratch: Path, keep: bool = False) -> Case:
    """Damage one file of a copy of the example and judge how it reads. keep: leave the copy in `scratch`."""
    rng, format = Random(f"{seed}-{number}"), example.format
    folder = _copy(example.folder, scratch)
    files = sorted({p for glob in format.files for p in folder.glob(glob) if p.is_file()}, key=_place)
    path = rng.choice(files)
    kind = rng.choice(kinds(path))
    damage(path, kind, rng)
    limit = max(SECONDS, 6 * example.seconds)
    memory = 2 * example.memory + SLACK
    found = _forked(format, folder, limit, memory, loud=keep)
    if found.get("killed") == signal.SIGALRM:  # the machine may have been busy
        found = _forked(format, folder, 6 * limit, memory, loud=keep)
    verdict, why = _judge(found, example, path)
    if (
        verdict == "legally different"
        and _forked(format, folder, limit, memory, draw=1).get("digest") != found["digest"]
    ):
        verdict, why = "FAILED", "not twice the same: another reading gives another result"
    if not keep:
        shutil.rmtree(scratch)
    return Case(format.name, number, str(path.relative_to(folder)), kind, verdict, why)


def _place(path: Path) -> tuple[str, int]:
    """A key that changes to the code leave alone: without hashes in names, in the order of the writing."""
    return re.sub(r"[0-9a-f]{12,}", "", str(path)), path.stat().st_mtime_ns


def _copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))


def _judge(found: dict[str, Any], example: Example, path: Path) -> tuple[str, str]:
    end = found["end"]
    told = [w for w in found.get("warnings", ()) if path.stem in w]
    if "killed" in found:
        hang = found["killed"] == signal.SIGALRM
        return "FAILED", "hang: no end" if hang else f"crash: signal {found['killed']}"
    if found["memory"] > 2 * example.memory + SLACK or "alloc" in found.get("message", ""):
        return "FAILED", f"memory: {found['memory'] / 2**20:.0f} MiB, {found.get('message', '')[:100]}"
    if end == "DditError":
        message = found["message"]
        named = {path.name, path.stem, path.parent.name, "--policy"}
        if "\n" in message or len(message) > LONGEST:
            return "FAILED", f"message too long: {len(message)} characters, {message[:200]!r}"
        if not any(name in message for name in named):
            return "FAILED", f"message names nothing: {message!r}"
        return "refused", message
    if end != "read":
        return "FAILED", f"{end}: {found['message'][:300]}"
    if found["digest"] == example.digest:
        return ("healed" if told else "unchanged"), "; ".join(told)
    if found["digest"] == _digest(AGAIN):
        return ("healed", told[0]) if told else ("FAILED", "made again in silence: it was not said")
    if example.format.legal:
        return "legally different", example.format.legal
    if path.name in OPTIONAL and not os.path.lexists(path):
        return "legally different", "its stage has not run yet"
    return "FAILED", "another result: nothing was said"


def _forked(
    format: Format, folder: Path, seconds: float, memory: int, *, loud: bool = False, draw: int = 0
) -> dict[str, Any]:
    """The reading in a fork, which a hang or a crash ends and nothing else. draw: of random numbers."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it waits for
        signal.setitimer(signal.ITIMER_REAL, seconds)
        if not loud:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        here = _virtual()
        resource.setrlimit(resource.RLIMIT_AS, (here + memory + 2**30, resource.RLIM_INFINITY))
        torch.manual_seed(draw)
        found = _read(format, folder, loud)
        with os.fdopen(write, "w") as file:
            json.dump(found, file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) or not text:
        return {"end": "killed", "killed": os.WTERMSIG(status) if os.WIFSIGNALED(status) else status}
    return dict(json.loads(text))


def _read(format: Format, folder: Path, loud: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"end": "read"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found["digest"] = _digest(format.read(folder))
        except BaseException as error:
            found |= {"end": type(error).__name__, "message": str(error)}
            if loud:
                traceback.print_exc()
            if not isinstance(error, DditError):
                frames = traceback.extract_tb(error.__traceback__)
                ours = [f for f in frames if "ddit_eval" in f.filename]
                found["message"] += f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    found["warnings"] = [str(w.message) for w in told if w.category is UserWarning]
    found["memory"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return found


def _virtual() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy() if value.numel() else ()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key, item in sorted(value.items(), key=lambda pair: str(pair[0])):
            _feed(digest, key)
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(repr(value).encode("utf-8", "surrogatepass"))
