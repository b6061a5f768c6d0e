"""Fills the records of an experiment: what is there is kept, what is missing is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddit_eval.ddit.call import call_arguments, set_guidance
from ddit_eval.ddit.policies import parse_policy
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.prompts import Prompt, load_prompts
from ddit_eval.experiment.records import Job, Store, Weights, code_hash
from ddit_eval.models.cost import flop_table, flops_of_counts
from ddit_eval.models.find import fingerprint, locate, text_tokens
from ddit_eval.models.load import load_pipeline
from ddit_eval.models.names import known
from ddit_eval.system.files import check_writable, read_json, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

FPS = 8  # of clips whose model and experiment name none
# (samples done, samples to do, what is being made)
Progress = Callable[[int, int, str], None]


def _quiet(done: int, total: int, label: str) -> None:
    pass


@dataclass(frozen=True)
class Outcome:
    """What a run of the generator did. `made` counts the samples of this process."""

    total: int
    there: int
    made: int


class Generator:
    """One pipeline with one attachment, switched from method to method."""

    def __init__(self, experiment: Experiment, pipe: Any = None):
        from ddit_eval.ddit.handle import attach

        self.pipe = load_pipeline(experiment.model, dtype=dtype_of(experiment)) if pipe is None else pipe
        self.pipe.set_progress_bar_config(disable=True)
        self.handle = attach(self.pipe, adapter=experiment.adapter)
        self.text_tokens = text_tokens(experiment.model)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.detach()

    def arguments(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """The pipeline call that makes `jobs`, which are equal in all but the prompt."""
        first = jobs[0]
        more: dict[str, Any] = {"true_cfg_scale": first.true_cfg_scale, "output_type": "np"}
        if first.true_cfg_scale > 1:
            more["negative_prompt"] = [""] * len(jobs)
        return call_arguments(
            self.pipe,
            [job.prompt.text for job in jobs],
            [job.prompt.seed for job in jobs],
            (first.height, first.width, first.frames),
            first.steps,
            self.text_tokens,
            first.guidance_scale,
            **more,
        )

    def sample(self, jobs: Sequence[Job]) -> tuple[list[list[Image]], list[dict[str, Any]]]:
        """The frames of each of `jobs` (a picture has one), and their common trace in JSON form.

        Raises `DditError` where a picture holds NaN or has not the size that was asked for.
        """
        import numpy as np
        from PIL import Image

        first = jobs[0]
        self.handle.policy = parse_policy(first.policy)
        self.handle.seed = first.prompt.seed
        set_guidance(self.pipe, first.guidance_scale)
        output = self.pipe(**self.arguments(jobs))
        # (N, F, H, W, 3)
        pictures = output.frames if hasattr(output, "frames") else output.images[:, None]
        what = f"{first.method!r} on prompt {first.prompt.index} ({first.prompt.text!r})"
        if not np.isfinite(pictures).all():
            raise DditError(
                f"the picture of {what} holds NaN; try dtype float32, fewer coarse steps or another adapter"
            )
        frames, height, width = pictures.shape[1:4]
        if (height, width) != (first.height, first.width):
            raise DditError(
                f"{first.height} x {first.width} px cannot be made by this model: it gave "
                f"{height} x {width}; choose a size that it can divide into patches"
            )
        if frames != first.frames:
            raise DditError(
                f"frames: {first.frames} cannot be made by this model, it gave {frames}; ask for {frames}"
            )
        levels = (pictures * 255).round().astype("uint8")
        trace = [self._counted(step.to_json(), first) for step in self.handle.trace]
        return [[Image.fromarray(frame) for frame in clip] for clip in levels], trace

    def _counted(self, step: dict[str, Any], job: Job) -> dict[str, Any]:
        """A step of several patch sizes with the FLOPs of a transformer call: no table by scale has them."""
        if "counts" not in step:
            return step
        counts = {int(scale): n for scale, n in step["counts"].items()}
        size = (job.height, job.width, job.frames)
        return step | {"flops": flops_of_counts(job.weights.model, job.weights.adapter, size, counts)}


def dtype_of(experiment: Experiment) -> str:
    """The name of the experiment's dtype, or of the one that `load_pipeline` chooses here."""
    import torch

    return experiment.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")


def describe_weights(experiment: Experiment) -> Weights:
    """Names and fingerprints of the experiment's model and adapter, without loading either."""
    from ddit_eval.ddit.adapter.places import find as locate_adapter

    adapter = experiment.adapter
    return Weights(
        model=experiment.model,
        model_hash=fingerprint(locate(experiment.model)),
        adapter=adapter,
        adapter_hash=fingerprint(locate_adapter(adapter)) if adapter else None,
        dtype=dtype_of(experiment),
    )


def size_of(experiment: Experiment) -> tuple[int, ...]:
    """Height and width in pixels, and of a clip the number of frames; raises `DditError` where neither
    experiment nor model says."""
    model = known(experiment.model)
    side, wide = experiment.side, experiment.side
    if side is None and model:
        side, wide = model.side, model.width or model.side
    height, width = experiment.height or side, experiment.width or wide
    if height is None or width is None:
        raise DditError(
            f"the size of {experiment.model}'s pictures is not known; add `side: PIXELS` to the experiment"
        )
    frames = experiment.frames or (model.frames if model else 1)
    return (height, width, frames) if frames > 1 else (height, width)


def job_of(experiment: Experiment, weights: Weights, method: Method, prompt: Prompt, repeat: int = 0) -> Job:
    """The sample of one method on one prompt."""
    height, width, *frames = size_of(experiment)
    model = known(experiment.model)
    return Job(
        weights=weights,
        method=method.name,
        policy=method.policy.model_dump(mode="json"),
        steps=experiment.steps_of(method),
        height=height,
        width=width,
        guidance_scale=experiment.guidance_scale,
        true_cfg_scale=experiment.true_cfg_scale,
        prompt=prompt,
        repeat=repeat,
        code=code_hash(),
        frames=frames[0] if frames else 1,
        fps=experiment.fps or (model.fps if model and model.fps else FPS),
    )


def jobs_of(experiment: Experiment, weights: Weights | None = None) -> dict[str, list[Job]]:
    """Every sample of an experiment by method, prompts in order."""
    weights = weights or describe_weights(experiment)
    prompts = load_prompts(experiment.prompts)
    return {
        method.name: [job_of(experiment, weights, method, p, experiment.repeat_of(method)) for p in prompts]
        for method in experiment.methods
    }


def batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Consecutive jobs of one method, `size` at a time; singly where the schedule is the sample's own."""
    for _, group in groupby(jobs, key=lambda job: job.method):
        same = list(group)
        step = 1 if parse_policy(same[0].policy).per_sample else size
        yield from (same[i : i + step] for i in range(0, len(same), step))


def _kept(store: Store, job: Job) -> bool:
    """Whether the record is there; one whose row was renamed gets its new name."""
    record = store.load(job.key)
    if record is None:
        return False
    if (record["method"], record["index"]) != (job.method, job.prompt.index):
        write_json(store.folder / f"{job.key}.json", job.record(record["trace"]))
    return True


def _make(
    generator: Generator,
    store: Store,
    todo: Sequence[list[Job]],
    progress: Progress = _quiet,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Make the records of some batches. stop: asked before each."""
    total, made = sum(map(len, todo)), 0
    for batch in todo:
        if stop():
            return
        progress(made, total, batch[0].method)
        samples, trace = generator.sample(batch)
        for job, frames in zip(batch, samples, strict=True):
            store.save(job, frames, trace)
        made += len(batch)
    progress(made, total, "done")


def _help(
    experiment: Experiment, store: Store, todo: list[list[Job]], workers: int, *, stop: Callable[[], bool]
) -> None:
    """One of `workers`, in a process of its own."""
    from ddit_eval.system.quiet import quiet_libraries
    from ddit_eval.system.workers import share_of_cores

    quiet_libraries()  # it has no command line that has done so
    with share_of_cores(workers), Generator(experiment) as generator:
        _make(generator, store, todo, stop=stop)


def generate(
    experiment: Experiment,
    folder: Path,
    *,
    pipe: Any = None,
    workers: int = 1,
    progress: Progress = _quiet,
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
    by_method = jobs_of(experiment)
    jobs = [job for same in by_method.values() for job in same]
    # Without cpu=True, accelerate takes processes on a machine without GPU for strangers.
    state = PartialState(cpu=not torch.cuda.is_available())
    missing = [job for job in jobs if not _kept(store, job)]
    state.wait_for_everyone()  # nobody writes before all have looked, so all split the same list
    # One here, one there: neighbours cost about the same.
    todo = list(batches(missing, experiment.batch))[state.process_index :: state.num_processes]
    if todo:
        shares = [todo[i::workers] for i in range(min(workers, len(todo)))]
        helps = [(experiment, store, share, len(shares)) for share in shares[1:]]
        with share_of_cores(len(shares)), Generator(experiment, pipe) as generator:
            with beside(_help, helps):
                _make(generator, store, shares[0], progress)
            left = [job for share in shares[1:] for batch in share for job in batch if not _kept(store, job)]
            _make(generator, store, list(batches(left, experiment.batch)))  # of a worker that died
    state.wait_for_everyone()
    if state.is_main_process:
        keys = {name: [job.key for job in same] for name, same in by_method.items()}
        table = flop_table(experiment.model, experiment.adapter, *size_of(experiment))
        write_json(folder / "index.json", {"methods": keys, "flops": {str(s): n for s, n in table.items()}})
    return Outcome(len(jobs), len(jobs) - len(missing), sum(map(len, todo)))


def records_of(experiment: Experiment, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of an experiment by method, prompts in order; needs no weights.

    Raises `DditError` naming what is missing, or what the experiment says otherwise by now.
    """
    store = Store(folder / "records")
    index = read_json(folder / "index.json")["methods"]
    prompts = load_prompts(experiment.prompts)
    again = "run `ddit-eval run` on the experiment"
    found: dict[str, list[dict[str, Any]]] = {}
    for method in experiment.methods:
        keys = index.get(method.name, [])
        records = [record for key in keys if (record := store.load(key)) is not None]
        if len(records) != len(prompts):
            raise DditError(
                f"{len(records)} of {len(prompts)} records of {method.name!r} are in {store.folder}; {again}"
            )
        wanted = (method.policy.model_dump(mode="json"), experiment.steps_of(method))
        for record, prompt in zip(records, prompts, strict=True):
            same = (record["prompt"], record["seed"]) == (prompt.text, prompt.seed)
            if not same or (record["policy"], record["steps"]) != wanted:
                raise DditError(
                    f"record {record['key']} of {method.name!r} is of an older experiment; {again}"
                )
        found[method.name] = records
    return found
