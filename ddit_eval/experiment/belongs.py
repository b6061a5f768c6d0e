"""Whether result files belong to an experiment and to each other; none needs weights to be here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.prompts import load_prompts, prompts_hash
from ddit_eval.experiment.setting import size_of
from ddit_eval.schema import Measured, Oracle, Quality, Study, Timing, differences

_OTHERS = ("policy", "steps", "prompts")  # that a trial or a row of the oracle has of its own


def belongs(
    quality: Quality,
    *,
    experiment: Experiment | None = None,
    timing: Timing | None = None,
    study: Study | None = None,
    oracle: Oracle | None = None,
) -> None:
    """Refuse files that do not belong together: a YAML edited since, a timing of another policy, a study or
    an oracle of other weights.

    Raises `DditError` naming the row, what differs and the command that mends it.
    """
    if experiment is not None:
        _as_said(quality, experiment)
    base = quality.row(quality.reference).of
    for timed in timing.rows if timing else ():
        ours = next((row.of for row in quality.rows if row.method == timed.method), None)
        if ours is None:
            apart = ["quality.json has no such row"]
        elif timed.of is None:
            apart = ["it does not say what it was measured of"]
        else:
            apart = differences(timed.of, ours, "timing.json", "quality.json")
        _refuse(f"timing.json, row {timed.method!r}", apart, Timing.made_by)
    for trial in study.trials[:1] if study else ():
        apart = differences(trial.of, base, "study.json", "quality.json", but=_OTHERS)
        _refuse("study.json", apart, Study.made_by)
    for row in oracle.rows[:1] if oracle else ():
        apart = differences(row.of, base, "oracle.json", "quality.json", but=_OTHERS)
        _refuse("oracle.json", apart, Oracle.made_by)


def stale(experiment: Experiment, method: Method, made: Measured, file: str) -> list[str]:
    """A sentence for each fact that an experiment says otherwise than a row or a record was `made` of."""
    said: dict[str, Any] = {
        "model": experiment.model,
        "adapter": experiment.adapter,
        "policy": method.policy.model_dump(mode="json"),
        "steps": experiment.steps_of(method),
        "size": size_of(experiment),
        "guidance_scale": experiment.guidance_scale,
        "true_cfg_scale": experiment.true_cfg_scale,
    }
    if experiment.dtype:
        said["dtype"] = experiment.dtype
    names = [f"{k} is {said[k]!r} in the experiment and {theirs!r} in {file}" for k in ("model", "adapter")
             if said[k] != (theirs := getattr(made, k))]  # fmt: skip
    return names + differences(made.model_copy(update=said), made, "the experiment", file)


def _as_said(quality: Quality, experiment: Experiment) -> None:
    mend = "`ddit-eval run EXPERIMENT` and `ddit-eval evaluate EXPERIMENT`"
    if quality.reference != experiment.reference:
        ours, theirs = experiment.reference, quality.reference
        _refuse("quality.json", [f"reference is {ours!r} in the experiment and {theirs!r} in it"], mend)
    prompts = prompts_hash(load_prompts(experiment.prompts))
    rows = {row.method: row for row in quality.rows}
    for method in experiment.methods:
        row = rows.pop(method.name, None)
        if row is None:
            _refuse("quality.json", [f"it has no row {method.name!r}, which the experiment has"], mend)
            continue
        apart = stale(experiment, method, row.of, "quality.json")
        if row.of.prompts != prompts:
            apart.append(f"prompts is {prompts!r} in the experiment and {row.of.prompts!r} in quality.json")
        _refuse(f"quality.json, row {method.name!r}", apart, mend)
    _refuse("quality.json", [f"the experiment has no method {name!r}" for name in rows], mend)


def _refuse(what: str, apart: Sequence[str], mend: str) -> None:
    if apart:
        raise DditError(f"{what} does not belong to the rest: {'; '.join(apart)}. To mend it: {mend}")
