"""What an experiment comes to on this machine: each fact found once a command, and handed down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from ddit_eval.ddit.adapter.places import find as locate_adapter
from ddit_eval.ddit.families import ModelFamily
from ddit_eval.ddit.policies import Base
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.experiment.config import Experiment, Method
from ddit_eval.experiment.prompts import Prompt, load_prompts, prompts_hash
from ddit_eval.experiment.records import Job, code_of, together
from ddit_eval.models.cost import calls_a_step, family_of_model, flop_table, flops_of
from ddit_eval.models.find import fingerprint, locate, text_tokens
from ddit_eval.models.names import known
from ddit_eval.schema import Measured

FPS = 8  # of clips whose model and experiment name none


@dataclass(frozen=True)
class Weights:
    """Names and fingerprints of what a run is made with."""

    model: str
    model_hash: str
    adapter: str | None
    adapter_hash: str | None
    dtype: str


@dataclass(frozen=True)
class Setting:
    """An experiment resolved. A fact is found when it is first asked for; workers are sent those found."""

    experiment: Experiment

    @cached_property
    def weights(self) -> Weights:
        """Fingerprints hash the files; nothing is loaded. Raises `DditError` where they are not here."""
        model, adapter = self.experiment.model, self.experiment.adapter
        adapter_hash = fingerprint(locate_adapter(adapter)) if adapter else None
        return Weights(model, fingerprint(locate(model)), adapter, adapter_hash, self.dtype)

    @cached_property
    def dtype(self) -> str:
        """The name of the experiment's dtype, or of the one that `load_pipeline` chooses here."""
        import torch

        return self.experiment.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")

    @cached_property
    def size(self) -> tuple[int, ...]:
        return size_of(self.experiment)

    @cached_property
    def fps(self) -> int:
        model = known(self.experiment.model)
        return self.experiment.fps or (model.fps if model and model.fps else FPS)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        return tuple(load_prompts(self.experiment.prompts))

    @cached_property
    def text_tokens(self) -> int:
        return text_tokens(self.experiment.model)

    @cached_property
    def family(self) -> ModelFamily:
        return family_of_model(self.experiment.model)

    @cached_property
    def calls(self) -> int:
        """Transformer calls of a denoising step."""
        return calls_a_step(self.experiment)

    @cached_property
    def flops(self) -> dict[int, int]:
        """FLOPs of a transformer call on one sample by scale."""
        return flop_table(self.experiment.model, self.experiment.adapter, *self.size)

    def flops_of(self, trace: Sequence[StepTrace]) -> int:
        """FLOPs of a run."""
        return flops_of(trace, self.flops, self.calls)

    def job(self, method: Method, prompt: Prompt, repeat: int = 0) -> Job:
        """The sample of one method on one prompt."""
        height, width, frames = (*self.size, 1)[:3]
        return Job(
            **asdict(self.weights),
            code=code_of(method.policy, self.family, beside=method),
            method=method.name,
            policy=method.policy.model_dump(mode="json"),
            cache=method.beside.get("cache"),
            scheduler=method.beside.get("scheduler"),
            setup=method.beside.get("setup"),
            steps=self.experiment.steps_of(method),
            height=height,
            width=width,
            frames=frames,
            fps=self.fps,
            guidance_scale=self.experiment.guidance_scale,
            true_cfg_scale=self.experiment.true_cfg_scale,
            prompt=prompt.text,
            index=prompt.index,
            seed=prompt.seed,
            repeat=repeat,
        )

    @cached_property
    def batch(self) -> int:
        """Samples of a call, the same for all methods: calls of different sizes round differently, so that a
        row would differ from one that computes the same. One where a schedule is its sample's own."""
        alone = any(method.policy.per_sample for method in self.experiment.methods)
        return 1 if alone else self.experiment.batch

    def calls_of(self, method: Method) -> list[list[Job]]:
        """Every sample of a method, prompts in order, call by call."""
        repeat, n = self.experiment.repeat_of(method), self.batch
        jobs = [self.job(method, prompt, repeat) for prompt in self.prompts]
        return [together(jobs[i : i + n]) for i in range(0, len(jobs), n)]

    def jobs(self) -> dict[str, list[Job]]:
        """The same of all methods, by name."""
        return {m.name: [job for call in self.calls_of(m) for job in call] for m in self.experiment.methods}

    def check(self) -> None:
        """Refuse what the model cannot run beside its policies. Reads configurations, loads no weights.

        Raises `DditError` naming the method and why.
        """
        from ddit_eval.rivals.rows import check

        for method in self.experiment.methods:
            if method.beside:
                try:
                    check(self.experiment.model, method, self.calls, self.experiment.steps_of(method))
                except DditError as error:
                    raise DditError(f"method {method.name!r}: {error}") from None

    def measured(self, method: Method | None = None, prompts: Sequence[Prompt] | None = None) -> Measured:
        """What a row is measured of; by default the base on the experiment's prompts."""
        method, prompts = method or Method(name="base", policy=Base()), prompts or self.prompts
        return self.job(method, prompts[0]).of(prompts_hash(prompts))


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
