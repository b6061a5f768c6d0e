"""What the dashboard shows of a trial: its schedule, and its first pictures under the base's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddit_eval.ddit.policies import choices
from ddit_eval.experiment.config import Method
from ddit_eval.study.measure import Score

if TYPE_CHECKING:
    import optuna
    from PIL.Image import Image

SHOWN = 4  # prompts
SIDE = 128  # pixels of a picture on the dashboard


def attach(trial: optuna.trial.Trial, method: Method, scored: Sequence[Score], folder: Path) -> None:
    """Put a trial's pictures into the artifact store in `folder`, and a note that shows them on the trial."""
    from optuna.artifacts import FileSystemArtifactStore, upload_artifact
    from optuna_dashboard import save_note
    from optuna_dashboard.artifact import get_artifact_path

    from ddit_eval import figures

    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(str(folder))
    cost, quality, policy = scored[0].cost, scored[0].quality, method.policy
    lines = [
        f"**{policy.kind}**, {method.steps} steps, {len(scored)} prompts; the first one: cost {cost:.3f}, "
        f"quality {quality:.4g}"
    ]
    with tempfile.TemporaryDirectory() as temporary:
        made = {}
        if strip := side_by_side(scored[:SHOWN]):
            made["the base above, this trial below"] = Path(temporary) / "pictures.png"
            strip.save(made["the base above, this trial below"])
        if all(score.scales for score in scored):
            known = sorted(choices(policy))
            figure = figures.schedule_heatmap([r.scales for r in scored], title=policy.kind, known=known)
            path = figures.save(figure, Path(temporary) / "schedule", dpi=100)
            made["the scale of each step, prompt by prompt"] = path
        for caption, path in made.items():
            identity = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)
            lines.append(f"{caption}\n\n![{caption}]({get_artifact_path(trial, identity)})")
    save_note(trial, "\n\n".join(lines))


def side_by_side(scored: Sequence[Score]) -> Image | None:
    """The base's pictures in a row, the trial's below; None where there are none."""
    from PIL import Image

    pairs = [(r.base, r.picture) for r in scored if r.base is not None and r.picture is not None]
    if not pairs:
        return None
    strip = Image.new("RGB", (SIDE * len(pairs), 2 * SIDE))
    for column, pair in enumerate(pairs):
        for line, picture in enumerate(pair):
            strip.paste(picture.resize((SIDE, SIDE)), (SIDE * column, SIDE * line))
    return strip
