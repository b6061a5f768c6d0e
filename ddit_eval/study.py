"""One Optuna study of the threshold rule: cost against fidelity to the base model.

Two objectives: the share of the base model's cost (minimised) and the paired quality (maximised), over
tau, rho, the candidate scales, the order of the difference, the dwell and the number of steps. Prompts
are not those of the report. Nothing here is timed, so the result is the same on every run.

The journal under .state/ is scratch: killed at any moment, the study goes on and ends as if it had
never stopped. Its export is what other stages read.

The signal of order 1 is ten times that of order 3, and latents of two models differ as much. So tau is
searched in units of the base's own median signal of that order: one range serves every order and model.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddit_eval import metrics
from ddit_eval.config import Experiment, Method, Study
from ddit_eval.cost import flop_table, flops_of, tokens_of
from ddit_eval.files import canonical, check_writable, write_json
from ddit_eval.generate import Generator, describe_weights, job_of, size_of
from ddit_eval.policies import Base, Threshold
from ddit_eval.prompts import tuning_prompts
from ddit_eval.records import PICTURE_CODE, Weights, code_hash

if TYPE_CHECKING:
    import optuna
    from torch import Tensor

Progress = Callable[[int, int, str], None]
# (cost, quality) of a policy at a number of steps
Measure = Callable[[Threshold, int], tuple[float, float]]
CODE = (*PICTURE_CODE, "study.py", "cost.py", "flops.py", "metrics")  # what decides the values
CAP = 100.0  # an infinite PSNR (identical pictures) counts as this: samplers need finite values


def search_policy(
    trial: optuna.Trial, space: Study, units: Mapping[int, float] = MappingProxyType({})
) -> tuple[Threshold, int]:
    """Ask a trial for a policy and a number of steps. `units`: what a relative tau of 1 is, by order."""
    order = trial.suggest_categorical("order", space.order)
    relative = trial.suggest_float("tau_relative", *space.tau, log=True)
    names = [",".join(map(str, scales)) for scales in space.scales]
    scales = trial.suggest_categorical("scales", names)
    policy = Threshold(
        tau=relative * units.get(order, 1.0),
        rho=trial.suggest_float("rho", *space.rho),
        scales=tuple(int(s) for s in scales.split(",")),
        order=order,
        dwell=trial.suggest_int("dwell", *space.dwell),
    )
    return policy, int(trial.suggest_categorical("steps", space.steps))


def sampler_for(space: Study, done: int) -> optuna.samplers.BaseSampler:
    """The sampler of the trial that follows `done` complete ones.

    A sampler with one seed repeats its points after a restart. Seeded anew for each trial it is a pure
    function of the complete trials, so that a resumed study is the uninterrupted one.
    """
    import optuna

    seed = int.from_bytes(hashlib.sha256(f"{space.seed}/{done}".encode()).digest()[:4], "big")
    startup = max(4, space.trials // 3)
    if space.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=True)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


def mend_journal(path: Path) -> None:
    """Cut a torn last line off the journal, as a kill leaves it, and say so."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        warnings.warn(
            f"the last line of {path} was torn by a kill and is dropped; its trial runs again", stacklevel=2
        )
        with open(path, "r+b") as file:
            file.truncate(len(whole))


def open_study(name: str, journal: Path) -> optuna.Study:
    """Open or create the study; trials that a killed process left running are failed.

    The sampler asks for the same point again (see `sampler_for`), so nothing has to be queued.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Metric names and deterministic GP objectives are "experimental"; that is no news for the user.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    check_writable(journal.parent)
    mend_journal(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        study_name=name, storage=storage, directions=["minimize", "maximize"], load_if_exists=True
    )
    study.set_metric_names(["cost", "quality"])
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def first_point(space: Study) -> dict[str, Any]:
    """Where a study starts: the published rule (order 3, rho .4, every scale), tau in mid-range."""
    return {
        "tau_relative": math.sqrt(space.tau[0] * space.tau[1]),
        "rho": min(max(0.4, space.rho[0]), space.rho[1]),
        "order": max(space.order),
        "scales": ",".join(map(str, max(space.scales, key=sum))),
        "dwell": space.dwell[0],
        "steps": max(space.steps),
    }


def run_trials(
    study: optuna.Study,
    space: Study,
    measure: Measure,
    units: Mapping[int, float] = MappingProxyType({}),
    progress: Progress = lambda done, total, label: None,
) -> None:
    """Run trials until `space.trials` are complete. `units`: what a relative tau of 1 is, by order."""
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.WAITING)):
        study.enqueue_trial(first_point(space))
    while (done := len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))) < space.trials:
        progress(done, space.trials, "trials")
        study.sampler = sampler_for(space, done)
        trial = study.ask()
        policy, steps = search_policy(trial, space, units)
        trial.set_user_attr("tau", policy.tau)
        cost, quality = measure(policy, steps)
        if space.floor is not None:
            trial.set_constraint("floor", space.floor - quality)
            # The dashboard reads the constraint under this older name.
            trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [space.floor - quality])
        study.tell(trial, [cost, quality])
    progress(space.trials, space.trials, "done")


def export(study: optuna.Study, space: Study) -> dict[str, Any]:
    """The complete trials as plain data, numbered in order; what was killed leaves no mark."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    rows: list[dict[str, Any]] = []
    for number, trial in enumerate(trials):
        slack = [] if space.floor is None else [space.floor - trial.values[1]]
        rows.append(
            {
                "number": number,
                "params": trial.params,
                "tau": trial.user_attrs["tau"],
                "values": list(trial.values),
                "constraints": slack,
                "state": trial.state.name,
            }
        )
    points = [(row["values"], not any(c > 0 for c in row["constraints"])) for row in rows]
    for row, (values, feasible) in zip(rows, points, strict=True):
        row["pareto"] = feasible and not any(dominates(other, values) for other, ok in points if ok)
    return {
        "study": study.study_name,
        "sampler": space.sampler,
        "objectives": [
            {"name": f"relative_{space.cost}", "direction": "minimize"},
            {"name": space.quality, "direction": "maximize"},
        ],
        "trials": rows,
    }


def dominates(one: list[float], other: list[float]) -> bool:
    """Whether (cost, quality) `one` is at least as good in both and better in one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def measure_with(generator: Generator, experiment: Experiment, weights: Weights) -> Measure:
    """Cost and quality of a policy, as means over the study's prompts.

    Cost is a share of the base model's; quality is against the base model's picture from the same noise.
    """
    space = experiment.study
    prompts = tuning_prompts(experiment.prompts, space.prompts)
    height, width = size_of(experiment)
    table = flop_table(experiment.model, experiment.adapter, height, width)
    metric = metrics.get(space.quality)
    texts = [prompt.text for prompt in prompts]

    def run(policy: Any, steps: int) -> tuple[Tensor, float]:
        method = Method(name="trial", policy=policy, steps=steps)
        pictures, cost = [], 0
        for prompt in prompts:
            images, trace = generator.sample([job_of(experiment, weights, method, prompt)])
            pictures.append(torch.from_numpy(np.array(images[0])).permute(2, 0, 1).float() / 255)
            cost += flops_of(trace, table) if space.cost == "flops" else tokens_of(trace)
        return torch.stack(pictures), cost

    reference, whole = run(Base(), experiment.steps)

    def measure(policy: Threshold, steps: int) -> tuple[float, float]:
        pictures, cost = run(policy, steps)
        values = metric(pictures, reference, texts)
        return cost / whole, float(np.nanmean(np.minimum(next(iter(values.values())), CAP)))

    return measure


def signal_units(generator: Generator, experiment: Experiment, weights: Weights) -> dict[int, float]:
    """Median signal of the base's own steps by order, over the study's prompts: a relative tau of 1."""
    prompts = tuning_prompts(experiment.prompts, experiment.study.prompts)
    units: dict[int, float] = {}
    for order in experiment.study.order:
        silent = Method(name="trial", policy=Threshold(tau=1e-30, order=order), steps=experiment.steps)
        traces = [generator.sample([job_of(experiment, weights, silent, p)])[1] for p in prompts]
        signals = [v for trace in traces for step in trace for v in (step["signals"] or {}).values()]
        units[order] = float(np.median(signals)) if signals else 1.0
    return units


def study_key(experiment: Experiment, *versions: str) -> str:
    """12 hex digits of everything that decides the study's values: parameters, weights, code."""
    parts = experiment.model_dump(
        mode="json", exclude={"methods", "metrics", "timing", "reference", "profile"}
    )
    return hashlib.sha256(canonical([parts, *versions]).encode()).hexdigest()[:12]


def run_study(
    experiment: Experiment,
    result: Path,
    state: Path = Path(".state"),
    *,
    pipe: Any = None,
    progress: Progress = lambda done, total, label: None,
) -> dict[str, Any]:
    """Run or go on with the experiment's study and write its export to `result`."""
    check_writable(result.parent)
    weights = describe_weights(experiment)
    key = study_key(
        experiment, weights.model_hash, weights.adapter_hash or "", weights.dtype, code_hash(CODE)
    )
    study = open_study(f"{experiment.profile}-{key}", state / f"study-{key}.journal")
    space = experiment.study
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(complete) < space.trials:
        with Generator(experiment, pipe) as generator:
            units = signal_units(generator, experiment, weights)
            run_trials(study, space, measure_with(generator, experiment, weights), units, progress)
    exported = export(study, space)
    write_json(result, exported)
    return exported
