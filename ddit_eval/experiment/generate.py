"""Fills the records of an experiment: what is there is kept, what is missing is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ddit_eval.ddit import sampling
from ddit_eval.ddit.policies import Policy, parse_policy
from ddit_eval.ddit.sampling import Request, Run
from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import stale
from ddit_eval.experiment.config import Experiment
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.experiment.records import Job, Store
from ddit_eval.experiment.setting import Setting
from ddit_eval.models.cost import flops_of_counts
from ddit_eval.models.load import load_pipeline
from ddit_eval.schema import Index, Record, read, write
from ddit_eval.system.files import check_writable
from ddit_eval.system.progress import Progress, quiet


@dataclass(frozen=True)
class Outcome:
    """What a run of the generator did. `made` counts the samples of this process."""

    total: int
    there: int
    made: int


class Generator:
    """One pipeline with one attachment, switched from method to method."""

    def __init__(self, setting: Setting, pipe: Any = None):
        from ddit_eval.ddit.handle import attach

        self.setting, experiment = setting, setting.experiment
        if pipe is None:
            setting.flops  # noqa: B018  needs no weights, and refuses an adapter or a size that does not fit
        self.pipe = load_pipeline(experiment.model, dtype=setting.dtype) if pipe is None else pipe
        self.pipe.set_progress_bar_config(disable=True)
        self.handle = attach(self.pipe, adapter=experiment.adapter)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.detach()

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
        """Make samples, see `sampling.draw`; steps of several patch sizes get their FLOPs, which no table by
        scale has."""
        run = sampling.draw(self.handle, self.request(jobs))
        for step in run.trace:
            if step.counts is not None:
                first = jobs[0]
                step.flops = flops_of_counts(first.model, first.adapter, first.size, step.counts)
        return run


def batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """Consecutive jobs of one method, `size` at a time as far as its policy allows."""
    for _, group in groupby(jobs, key=lambda job: job.method):
        same = list(group)
        yield from sampling.batches(same, size, parse_policy(same[0].policy))


def _kept(store: Store, job: Job) -> bool:
    """Whether the record is there; one whose row was renamed gets its new name."""
    record = store.load(job.key)
    if record is None:
        return False
    if (record.method, record.index) != (job.method, job.index):
        store.rewrite(job.record(record.trace))
    return True


def _make(
    generator: Generator,
    store: Store,
    todo: Sequence[Sequence[Job]],
    progress: Progress = quiet,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Make the records of some batches. stop: asked before each."""
    total, made = sum(map(len, todo)), 0
    for batch in todo:
        if stop():
            return
        progress(made, total, batch[0].method)
        run = generator.sample(batch)
        for job, levels in zip(batch, run.levels, strict=True):
            store.save(job, levels, run.trace)
        made += len(batch)
    progress(made, total, "done")


def _help(
    setting: Setting, store: Store, todo: list[Sequence[Job]], workers: int, *, stop: Callable[[], bool]
) -> None:
    """One of `workers`, in a process of its own."""
    from ddit_eval.system.quiet import quiet_libraries
    from ddit_eval.system.workers import share_of_cores

    quiet_libraries()  # it has no command line that has done so
    with share_of_cores(workers), Generator(setting) as generator:
        _make(generator, store, todo, stop=stop)


def generate(
    experiment: Experiment,
    folder: Path,
    *,
    pipe: Any = None,
    workers: int = 1,
    progress: Progress = quiet,
) -> Outcome:
    """Make every record of `experiment` that is not in `folder`/records yet.

    Stopped at any moment, the next call goes on where this one was. The missing samples are split between
    `workers` processes on this machine, and under `accelerate launch` between its processes; each loads the
    model itself, so that a given `pipe` is for one worker.
    `folder`/index.json then lists the keys by method, and the FLOPs of a transformer call by scale.
    Raises `DditError` where the folder cannot be written to, before anything is computed.
    """
    import torch
    from accelerate import PartialState

    from ddit_eval.system.workers import beside, check_workers, share_of_cores

    check_workers(workers, pipe)
    store = Store(folder / "records")
    check_writable(store.folder)
    setting = Setting(experiment)
    by_method = setting.jobs()
    jobs = [job for same in by_method.values() for job in same]
    # Without cpu=True, accelerate takes processes on a machine without GPU for strangers.
    state = PartialState(cpu=not torch.cuda.is_available())
    missing = [job for job in jobs if not _kept(store, job)]
    state.wait_for_everyone()  # nobody writes before all have looked, so all split the same list
    # One here, one there: neighbours cost about the same.
    todo = list(batches(missing, experiment.batch))[state.process_index :: state.num_processes]
    if todo:
        shares = [todo[i::workers] for i in range(min(workers, len(todo)))]
        helps = [(setting, store, share, len(shares)) for share in shares[1:]]
        with share_of_cores(len(shares)), Generator(setting, pipe) as generator:
            with beside(_help, helps):
                _make(generator, store, shares[0], progress)
            left = [job for share in shares[1:] for batch in share for job in batch if not _kept(store, job)]
            _make(generator, store, list(batches(left, experiment.batch)))  # of a worker that died
    state.wait_for_everyone()
    if state.is_main_process:
        keys = {name: tuple(job.key for job in same) for name, same in by_method.items()}
        write(folder / "index.json", Index(methods=keys, flops=setting.flops))
    return Outcome(len(jobs), len(jobs) - len(missing), sum(map(len, todo)))


def records_of(experiment: Experiment, folder: Path) -> dict[str, list[Record]]:
    """The records of an experiment by method, prompts in order; needs no weights.

    Raises `DditError` naming what is missing, or what the experiment says otherwise by now.
    """
    store = Store(folder / "records")
    index = read(folder / "index.json", Index).methods
    prompts = load_prompts(experiment.prompts)
    again = "run `ddit-eval run` on the experiment"
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
