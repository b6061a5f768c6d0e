"""Metrics of a folder of videos, and of two folders one to one.

A video is a gif, a film or a folder of frames. Videos are read one at a time: a set may be larger than the
memory. With a reference of the same names, the difference of every metric is paired video by video, and
each frame is compared with its own (PSNR, SSIM, ...), averaged over a video. Any other reference is compared
as a set of frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval import metrics, stats
from ddit_eval.errors import DditError
from ddit_eval.folders.pictures import distances, prompts_of, sets_or_reason
from ddit_eval.metrics import films as video
from ddit_eval.metrics.metric import Metric

if TYPE_CHECKING:
    from ddit_eval.metrics.sets import PictureSet
    from ddit_eval.metrics.sets.comparison import Family


def videos_of(folder: Path) -> dict[str, Path]:
    """Videos by name, in the order of the names; empty where the folder holds none."""
    from ddit_eval.metrics.films.frames import FILMS, PICTURES

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
    folder: Path,
    reference: str | Path | None = None,
    prompts: Path | None = None,
    only: Sequence[str] = (),
    network: str = "reader",
    cache: Path | None = None,
) -> dict[str, Any]:
    """Every applicable video metric, in the form of `folders.compare`, whose arguments these are.

    `columns` hold the folder's own values and, with a reference of the same names, `difference` (ours -
    theirs, paired). `sets`: all frames against all frames of the reference, resampled video by video.
    Raises `DditError` where shapes differ or a metric of `only` cannot run.
    """
    from ddit_eval.metrics.sets.comparison import FAMILIES

    ours, others = videos_of(folder), _reference(reference)
    alone = _without_partner(ours, others) if reference else "needs a reference folder"
    theirs = {} if alone else others
    texts = prompts_of(folder, list(ours), prompts)
    skipped: dict[str, str] = {}
    judges: list[video.VideoMetric] = []
    pairs: list[Metric] = []
    families = [family for family in FAMILIES if not only or family in only]
    for name in only or [*video.names(), *metrics.names()]:
        why = None
        if name in FAMILIES:
            continue
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
            why = pair.missing() or alone
            if not why:
                pairs.append(pair)
        if why and only:
            raise DditError(f"{name}: {why.removeprefix(f'{name}: ')}")
        if why:
            skipped[name] = why.removeprefix(f"{name}: ")
    for videos in (ours, theirs):
        _readable(videos)
    values: dict[str, list[float]] = {}
    base: dict[str, list[float]] = {}
    shape: tuple[int, ...] = ()
    for index, (name, path) in enumerate(ours.items()):
        clip, prompt = video.read(path), texts[index] if texts else ""
        shape = tuple(clip.frames.shape)
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

    def measured(wanted: Sequence[Family], given: str) -> list[dict[str, Any]]:
        from ddit_eval.metrics.sets import picture_set

        pool, films = frame_set(ours, str(folder))
        against = frame_set(others, given)[0] if others else picture_set(given)
        return distances(pool, against, network, wanted, cache, films)

    sets = sets_or_reason(
        families, None if reference is None else str(reference), measured, bool(only), skipped
    )
    return {
        "pictures": str(folder),
        "reference": None if reference is None else str(reference),
        "pictures_hash": _hash(ours),
        "reference_hash": _hash(others) if others else sets[0]["reference_hash"] if sets else None,
        "n": len(ours),
        "size": list(shape),
        "columns": columns,
        "sets": sets,
        "skipped": skipped,
    }


def _readable(videos: Mapping[str, Path]) -> None:
    """Raise one `DditError` that names every video which cannot be read or is not like most others, and
    counts them: a measure of those that are left would not be of the folder."""
    wrong: dict[str, str] = {}
    kinds: dict[str, tuple[int, ...]] = {}
    rates: dict[str, float | None] = {}
    for name, path in videos.items():
        try:
            clip = video.read(path)
        except DditError as error:
            wrong[name] = str(error)
            continue
        kinds[name], rates[name] = tuple(clip.frames.shape), clip.fps
    for found, what in ((kinds, "frames, colours, height, width"), (rates, "frames a second")):
        usual = Counter(found.values()).most_common(1)[0][0] if found else None
        wrong |= {n: f"{what} {v}, most have {usual}" for n, v in found.items() if v != usual}
    if wrong:
        some = "; ".join(f"{videos[name]}: {why}" for name, why in list(wrong.items())[:5])
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DditError(
            f"{len(wrong)} of {len(videos)} videos cannot be measured with the others: {some}{more}. Mend "
            "them or take them away"
        )


def frame_set(videos: Mapping[str, Path], name: str) -> tuple[PictureSet, list[str]]:
    """All frames of some videos as one set, and the video that each frame is of. One video is in memory at a
    time; its hash is that of the files."""
    from ddit_eval.metrics.sets import PictureSet

    films = [film for film, path in videos.items() for _ in video.read(path).frames]
    stacks = lambda: (video.read(path).frames for path in videos.values())  # noqa: E731 (read anew each time)
    return PictureSet(f"frames of {name}", _hash(videos), len(films), stacks), films


def _reference(reference: str | Path | None) -> dict[str, Path]:
    """The reference's videos; none where there is no reference, or a set of the world."""
    if reference is None or str(reference).startswith("world:"):
        return {}
    found = videos_of(Path(reference))
    if not found:
        raise DditError(f"{reference} holds no videos: give a folder of gifs, films or folders of frames")
    return found


def _without_partner(ours: Mapping[str, Path], theirs: Mapping[str, Path]) -> str | None:
    """Why videos cannot be compared one to one; None where they can."""
    if not (alone := sorted(set(ours) ^ set(theirs))):
        return None
    return f"needs videos of the same names: {len(alone)} have no partner, the first is {alone[0]!r}"


def _hash(videos: Mapping[str, Path]) -> str:
    """Of the content of all files, frames of a folder in the order of their names."""
    from ddit_eval.metrics.sets.reference import hash_of_files

    return hash_of_files(
        file
        for path in videos.values()
        for file in (sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path])
    )
