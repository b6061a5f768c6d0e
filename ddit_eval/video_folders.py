"""Metrics of a folder of videos, and of two folders one to one.

A video is a gif, a film or a folder of frames. Videos are read one at a time: a set may be larger than the
memory. With a reference of the same names, the difference of every metric is paired video by video, and
each frame is compared with its own (PSNR, SSIM, ...), averaged over a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError
from ddit_eval.folders import prompts_of
from ddit_eval.metrics import video
from ddit_eval.metrics.metric import Metric


def videos_of(folder: Path) -> dict[str, Path]:
    """Videos by name, in the order of the names; empty where the folder holds none."""
    from ddit_eval.metrics.video.frames import FILMS, PICTURES

    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        frames = path.is_dir() and any(p.suffix.lower() in PICTURES for p in path.iterdir())
        if frames or path.suffix.lower() in (".gif", *FILMS):
            name = path.name if frames else path.stem
            if name in found:
                raise DditError(f"{found[name]} and {path} have the same name; keep one of them")
            found[name] = path
    return found


def compare_videos(
    folder: Path, reference: Path | None = None, prompts: Path | None = None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Every applicable video metric, in the form of `folders.compare`.

    `columns` hold the folder's own values and, with a reference, `difference` (ours - theirs, paired).
    Raises `DditError` where names do not match, shapes differ, or a metric of `only` cannot run.
    """
    ours = videos_of(folder)
    theirs = videos_of(reference) if reference else {}
    if reference and (alone := sorted(set(ours) ^ set(theirs))):
        raise DditError(
            f"{folder} and {reference} are paired by name, but {len(alone)} videos have no partner, "
            f"the first is {alone[0]!r}"
        )
    texts = prompts_of(folder, list(ours), prompts)
    skipped: dict[str, str] = {}
    judges: list[video.VideoMetric] = []
    pairs: list[Metric] = []
    for name in only or [*video.names(), *metrics.names()]:
        why = None
        if name in video.names():
            judge = video.get(name)
            why = judge.missing() or ("needs prompts" if judge.needs_prompt and texts is None else None)
            if not why:
                judges.append(judge)
        else:
            pair = metrics.get(name)
            if pair.needs != "reference":
                if only:
                    raise DditError(f"{name} is a metric of pictures, not of videos")
                continue
            why = pair.missing() or (None if reference else "needs a reference folder")
            if not why:
                pairs.append(pair)
        if why and only:
            raise DditError(f"{name}: {why.removeprefix(f'{name}: ')}")
        if why:
            skipped[name] = why.removeprefix(f"{name}: ")
    values: dict[str, list[float]] = {}
    base: dict[str, list[float]] = {}
    shape: tuple[int, ...] = ()
    for index, (name, path) in enumerate(ours.items()):
        clip, prompt = video.read(path), texts[index] if texts else ""
        shape = shape or tuple(clip.frames.shape)
        if tuple(clip.frames.shape) != shape:
            raise DditError(f"{path} is {tuple(clip.frames.shape)} and others are {shape}; cut them alike")
        for judge in judges:
            values.setdefault(judge.name, []).append(judge(clip, prompt))
        if not theirs:
            continue
        other = video.read(theirs[name])
        for judge in judges:
            base.setdefault(judge.name, []).append(judge(other, prompt))
        for pair in pairs:
            for column, frames in pair(clip.frames, other.frames).items():
                values.setdefault(column, []).append(sum(frames) / len(frames))
    about = {j.name: j.describe() for j in judges}
    for pair in pairs:
        about |= pair.describe()
    columns = {k: stats.mean(v).to_json() | about[k] for k, v in values.items()}
    for name, theirs_values in base.items():
        columns[name]["difference"] = stats.paired_difference(values[name], theirs_values).to_json()
    return {
        "pictures": str(folder),
        "reference": None if reference is None else str(reference),
        "n": len(ours),
        "size": list(shape),
        "columns": columns,
        "sets": [],
        "skipped": skipped,
    }
