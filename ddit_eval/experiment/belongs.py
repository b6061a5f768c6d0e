"""Whether result files belong to an experiment and to each other; none needs weights to be here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ddit_eval.ddit.policies import known
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.prompts import load_prompts, prompts_hash
from ddit_eval.experiment.setting import size_of
from ddit_eval.schema import Frontier, Measured, Oracle, Quality, Study, Timing, differences
from ddit_eval.schema.measured import Stage, unlike
from ddit_eval.system.plugins import source_of

_BESIDE = ("cache", "scheduler", "setup")
_ROW = ("policy", "steps", *_BESIDE)  # what is a row's own


def asked(experiment: Experiment, model: type[Stage]) -> dict[str, Any]:
    """The parts of an experiment that decide a file, beside what its rows are measured of; lists of names in
    no order."""
    plain = experiment.model_dump(mode="json", include={*model.decided_by})
    if "advise" in plain:  # how long, and for which speed-ups: the command line may say it
        free = ("speed_ups", "minutes", "trials")
        plain["advise"] = {name: v for name, v in plain["advise"].items() if name not in free}
    return {name: sorted(v) if isinstance(v, list) else v for name, v in plain.items()}


def belongs(
    quality: Quality,
    *,
    experiment: Experiment | None = None,
    timing: Timing | None = None,
    study: Study | None = None,
    oracle: Oracle | None = None,
    frontier: Frontier | None = None,
) -> None:
    """Refuse files that do not belong together: a YAML edited since, a timing of another policy, a study, an
    oracle or a frontier of other weights. Every head, row and trial is looked at.

    Raises `DditError` naming the row, what differs and the command that mends it.
    """
    if experiment is not None:
        _rows_as_said(quality, experiment)
    for file in filter(None, (quality, timing, study, oracle, frontier)):
        said, where = quality.asked, "quality.json"
        if experiment is not None:
            said, where = asked(experiment, type(file)), "the experiment"
            _refuse(file.file, [] if file.asked else ["it does not say what was asked of it"], file.made_by)
        _refuse(file.file, unlike(said, file.asked, where, file.file), file.made_by)
    ours = {row.method: row.of for row in quality.rows}
    base = ours[quality.reference]
    if timing:
        _timed(timing, ours)
    for trial in study.trials if study else ():
        apart = _unlike_base(trial.of, base, "study.json", "prompts")
        _refuse(f"study.json, trial {trial.number}", apart, Study.made_by)
    for row in oracle.rows if oracle else ():
        apart = _unlike_base(row.of, base, "oracle.json")
        _refuse(f"oracle.json, row {row.name!r}", apart, Oracle.made_by)
    for target in frontier.targets if frontier else ():
        for way in filter(None, (target.best, target.best_without_coarse, target.best_ddit)):
            apart = _unlike_base(way.of, base, "frontier.json", "prompts")
            _refuse(f"frontier.json, way {way.name!r}", apart, Frontier.made_by)


def _unlike_base(of: Measured, base: Measured, file: str, *but: str) -> list[str]:
    """What a row has otherwise than the base, beside what is a row's own. Its code is where something runs
    beside the policy, or where the policy is another package's, see `records.code_of`."""
    beside = any(getattr(of, name) != getattr(base, name) for name in _BESIDE)
    kind = str(of.policy.get("kind"))
    own = beside or (of.code != base.code and source_of(known().get(kind)) is not None)
    free = (*_ROW, *but, "code") if own else (*_ROW, *but)
    return differences(of, base, file, "quality.json", but=free)


def _timed(timing: Timing, ours: dict[str, Measured]) -> None:
    """A row for each method that was to be timed, of the same as that of quality.json."""
    rows = {row.method: row.of for row in timing.rows}
    wanted = {*(timing.asked.get("timing", {}).get("methods") or ours), timing.reference}
    _refuse(
        "timing.json",
        [f"it has no row {name!r}" for name in ours if name in wanted - {*rows}],
        Timing.made_by,
    )
    for name, of in rows.items():
        if name not in ours:
            apart = ["quality.json has no such row"]
        elif of is None:
            apart = ["it does not say what it was measured of"]
        else:
            apart = differences(of, ours[name], "timing.json", "quality.json")
        _refuse(f"timing.json, row {name!r}", apart, Timing.made_by)


def stale(experiment: Experiment, method: Method, made: Measured, file: str) -> list[str]:
    """A sentence for each fact that an experiment says otherwise than a row or a record was `made` of."""
    said: dict[str, Any] = {
        "model": experiment.model,
        "adapter": experiment.adapter,
        "policy": method.policy.model_dump(mode="json"),
        **dict.fromkeys(("cache", "scheduler", "setup")),
        **method.beside,
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


def _rows_as_said(quality: Quality, experiment: Experiment) -> None:
    mend = "`ddit-eval run EXPERIMENT` and `ddit-eval evaluate EXPERIMENT`"
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
