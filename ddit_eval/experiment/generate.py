"""Fills the records of an experiment: what is there is kept, what is missing is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit import sampling
from ddit_eval.ddit.policies import Base, Policy, parse_policy
from ddit_eval.ddit.sampling import Request, Run
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import stale
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.experiment.records import Job, Store
from ddit_eval.experiment.setting import Setting
from ddit_eval.models.cost import flops_of_counts
from ddit_eval.models.load import load_pipeline
from ddit_eval.rivals.row import Rival, Setup, rival_of
from ddit_eval.schema import Index, Record, read, write
from ddit_eval.system.files import check_writable, digest, sweep
from ddit_eval.system.progress import Progress, quiet

if TYPE_CHECKING:
    from ddit_eval.ddit.handle import Handle

# MagCache's ratios are of a run on this prompt and seed, the same for all experiments and processes.
CALIBRATED_ON = ("a red star", 2**32 - 1)


@dataclass(frozen=True)
class Outcome:
    """What a run of the generator found and made. `damaged`: how many of those made were there, and not as
    they were written."""

    total: int
    there: int
    made: int
    damaged: int = 0


class Generator:
    """One pipeline with one attachment, switched from method to method.

    A row whose setup nothing undoes has a pipeline of its own, dropped when the next row with a setup comes;
    `keep`: in the end.
    """

    def __init__(self, setting: Setting, pipe: Any = None, *, keep: bool = False):
        self.setting, self.keep = setting, keep
        if pipe is None:
            setting.flops  # noqa: B018  needs no weights, and refuses an adapter or a size that does not fit
        self.pipe = self._load() if pipe is None else pipe
        self.handle = self._attach(self.pipe)
        self._own: dict[str, Handle | None] = {}  # by setup; None: it can be undone on the shared pipeline
        self._ratios: dict[str, dict[str, list[float]]] = {}  # MagCache's, by what the calibrating run was
        self._held = ExitStack()  # the row that `switch` put in effect

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()
        self._own = {}
        self.handle.detach()

    def _load(self) -> Any:
        return load_pipeline(self.setting.experiment.model, dtype=self.setting.dtype)

    def _attach(self, pipe: Any, what: str = "") -> Handle:
        from ddit_eval.ddit.handle import attach

        pipe.set_progress_bar_config(disable=True)
        try:
            return attach(pipe, adapter=self.setting.experiment.adapter)
        except DditError as error:
            raise DditError(f"{what}{error}") from None

    @contextmanager
    def ready(self, job: Job) -> Iterator[Handle]:
        """The attachment that makes `job`, with what its row needs beside the policy in effect."""
        from ddit_eval.rivals import rows

        rival, calls = rival_of(job), self.setting.calls
        with self._set_up(rival.setup) as handle:
            ratios = self._calibrated(handle, rival, job) if rows.uncalibrated(rival) else {}
            with rows.ready(handle.pipe, rival, calls, job.steps, ratios):
                yield handle

    def switch(self, job: Job) -> Handle:
        """The same, in effect until the next switch."""
        self._held.close()
        return self._held.enter_context(self.ready(job))

    @contextmanager
    def _set_up(self, setup: Setup | None) -> Iterator[Handle]:
        if setup is None:
            yield self.handle
            return
        from ddit_eval.rivals import setups

        key = digest(setup.model_dump(mode="json"))
        if key not in self._own:
            if not self.keep:
                self._own = {other: own for other, own in self._own.items() if own is None}
            pipe = self._load()
            undone = setups.tried(pipe, setup)
            self._own[key] = None if undone else self._attach(pipe, f"setup {setup.call!r}: ")
        if own := self._own[key]:
            yield own
            return
        with setups.set_up(self.pipe, setup):
            yield self.handle

    def _calibrated(self, handle: Handle, rival: Rival, job: Job) -> dict[str, list[float]]:
        """MagCache's ratios for a row: of the base on one fixed prompt with the row's steps and scheduler."""
        from ddit_eval.rivals import caches, rows

        plain = rival.model_copy(update={"cache": None})
        key = digest([plain.beside, job.steps, job.size, job.guidance_scale, job.true_cfg_scale])
        if key not in self._ratios:
            prompt, seed = CALIBRATED_ON
            alone = job.model_copy(update={"prompt": prompt, "seed": seed, "batch": None})
            length = rival.calls(job.steps)
            with (
                rows.ready(handle.pipe, plain, self.setting.calls, job.steps, {}),
                caches.calibrating(handle.pipe, length) as ratios,
            ):
                sampling.draw(handle, self.request([alone], Base()))
            self._ratios[key] = ratios
        return self._ratios[key]

    def request(self, jobs: Sequence[Job], policy: Policy | None = None) -> Request:
        """The call that makes `jobs`, which are equal in all but the prompt; under `policy`, if given."""
        first = jobs[0]
        return Request(
            policy=policy or parse_policy(first.policy),
            prompts=tuple(job.prompt for job in jobs),
            seeds=tuple(job.seed for job in jobs),
            size=first.size,
            steps=first.steps,
            guidance_scale=first.guidance_scale,
            true_cfg_scale=first.true_cfg_scale,
            text_tokens=self.setting.text_tokens,
        )

    def sample(self, jobs: Sequence[Job]) -> Run:
        """Make samples, see `sampling.draw`. Steps that no table by scale knows get their FLOPs: of several
        patch sizes they are worked out, under a cache or a setup they are counted."""
        from ddit_eval.rivals import rows

        first, request = jobs[0], self.request(jobs)
        with self.ready(first) as handle, rows.blamed(first.method, rival_of(first)):
            if first.cache or first.setup:
                run = self._counted(handle, request, first)
            else:
                run = sampling.draw(handle, request)
        for step in run.trace:
            if step.counts is not None and step.flops is None:
                step.flops = flops_of_counts(first.model, first.adapter, first.size, step.counts)
        return run

    def _counted(self, handle: Handle, request: Request, job: Job) -> Run:
        from ddit_eval.rivals import cost

        if any(cost.compiled(binding.transformer) for binding in handle.bindings):
            warnings.warn(
                f"the FLOPs of {job.method!r} are those of its patches alone: compiled code is not counted",
                stacklevel=4,
            )
            return sampling.draw(handle, request)
        with cost.counting(handle) as counted:
            run = sampling.draw(handle, request)
        counted.share(run.trace, self.setting.calls * len(request.prompts))
        return run


def _found(store: Store, job: Job, damaged: dict[str, str] | None = None) -> Record | None:
    """The record, where it is there and whole. Of one that is not whole `damaged` is told the key and why."""
    try:
        return store.load(job.key)
    except DditError as error:
        if damaged is not None:
            damaged[job.key] = str(error).split("; ")[0]
        return None


def _make(
    generator: Generator,
    store: Store,
    todo: Sequence[Sequence[Job]],
    progress: Progress = quiet,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Make the missing records of some batches, each made whole: of a part other bits would come. stop: asked
    before each."""
    total, made = sum(map(len, todo)), 0
    for batch in todo:
        if stop():
            return
        progress(made, total, batch[0].method)
        if missing := {job.key for job in batch if _found(store, job) is None}:
            run = generator.sample(batch)
            for job, levels in zip(batch, run.levels, strict=True):
                if job.key in missing:
                    store.save(job, levels, run.trace)
        made += len(batch)
    progress(made, total, "done")


def _help(setting: Setting, store: Store, todo: list[Sequence[Job]], *, stop: Callable[[], bool]) -> None:
    """A worker in a process of its own."""
    from ddit_eval.system.quiet import quiet_libraries
    from ddit_eval.system.workers import a_thread_each

    quiet_libraries()  # it has no command line that has done so
    with a_thread_each(), Generator(setting) as generator:
        _make(generator, store, todo, stop=stop)


def generate(
    experiment: Experiment,
    folder: Path,
    *,
    pipe: Any = None,
    workers: int = 1,
    progress: Progress = quiet,
) -> Outcome:
    """Make every record of `experiment` that is not in `folder`/records yet, or not as it was written.

    Stopped at any moment, the next call goes on where this one was, and ends with the same pictures: what is
    there decides no batch. The batches that lack a sample are split between `workers` processes on this
    machine, and under `accelerate launch` between its processes; each loads the model itself, so that a given
    `pipe` is for one worker.
    `folder`/index.json then lists the keys by method, and the FLOPs of a transformer call by scale.
    Raises `DditError` where the folder cannot be written to, before anything is computed; in the end, where
    records are gone that were there or made.
    """
    import torch
    from accelerate import PartialState

    from ddit_eval.system.workers import a_thread_each, beside, check_workers

    check_workers(workers, pipe)
    store = Store(folder / "records")
    check_writable(store.folder)
    sweep(folder)
    setting = Setting(experiment)
    setting.check()
    calls = [call for method in experiment.methods for call in setting.calls_of(method)]
    jobs = [job for call in calls for job in call]
    # Without cpu=True, accelerate takes processes on a machine without GPU for strangers.
    state = PartialState(cpu=not torch.cuda.is_available())
    damaged: dict[str, str] = {}
    there = {job.key: _found(store, job, damaged) for job in jobs}
    missing = {key for key, record in there.items() if record is None}
    state.wait_for_everyone()  # nobody writes before all have looked, so all split the same list
    if state.is_main_process:
        _tell(setting, store, damaged)
        for job in jobs:  # one of other names or frames a second gets the job's
            record = there[job.key]
            if record and any(getattr(record, name) != said for name, said in job):
                store.save(job, store.levels(record), record.trace)
    # One here, one there: neighbours cost about the same.
    todo = [call for call in calls if any(job.key in missing for job in call)]
    if todo := todo[state.process_index :: state.num_processes]:
        shares = [todo[i::workers] for i in range(min(workers, len(todo)))]
        with a_thread_each(), Generator(setting, pipe) as generator:
            with beside(_help, [(setting, store, share) for share in shares[1:]]):
                _make(generator, store, shares[0], progress)
            _make(generator, store, [call for share in shares[1:] for call in share])  # of a worker that died
    state.wait_for_everyone()
    if gone := [job.key for job in jobs if _found(store, job) is None]:
        raise DditError(
            f"{len(gone)} of {len(jobs)} records are not in {store.folder} in the end: something removed or "
            "changed them meanwhile. The same command makes them."
        )
    if state.is_main_process:
        keys: dict[str, tuple[str, ...]] = {m.name: () for m in experiment.methods}
        for job in jobs:
            keys[job.method] += (job.key,)
        write(folder / "index.json", Index(methods=keys, flops=setting.flops))
    return Outcome(len(jobs), len(jobs) - len(missing), len(missing), len(damaged))


def _tell(setting: Setting, store: Store, damaged: Mapping[str, str]) -> None:
    """Warn of what is not as the user may think."""
    if damaged:
        first = next(iter(damaged.values()))
        what = f"{len(damaged)} of the records are damaged or were edited, and are made anew"
        warnings.warn(f"{what}; the first: {first}", stacklevel=3)
    if setting.batch != setting.experiment.batch:
        own = next(m.name for m in setting.experiment.methods if m.policy.per_sample)
        warnings.warn(
            f"batch: {setting.experiment.batch} is not used: {own!r} has a schedule for each sample, so its "
            "samples are made one at a time, and with it all, as batches of two sizes round differently",
            stacklevel=3,
        )


def records_of(experiment: Experiment, folder: Path) -> dict[str, list[Record]]:
    """The records of an experiment by method, prompts in order; needs no weights.

    Raises `DditError` naming what is missing, or what the experiment says otherwise by now.
    """
    store = Store(folder / "records")
    index = read(folder / "index.json", Index).methods
    prompts = load_prompts(experiment.prompts)
    again = f"make them anew: {Record.made_by}"
    found: dict[str, list[Record]] = {}
    for method in experiment.methods:
        keys = index.get(method.name, ())
        records = [record for key in keys if (record := store.load(key)) is not None]
        if len(records) != len(prompts):
            raise DditError(
                f"{len(records)} of {len(prompts)} records of {method.name!r} are in {store.folder}; {again}"
            )
        for record, prompt in zip(records, prompts, strict=True):
            apart = (
                [] if (record.prompt, record.seed) == (prompt.text, prompt.seed) else ["the prompts differ"]
            )
            if apart := apart + stale(experiment, method, record.of(""), f"record {record.key}"):
                raise DditError(
                    f"record {record.key} of {method.name!r} is of an older experiment: {apart[0]}; {again}"
                )
        found[method.name] = records
    return found
