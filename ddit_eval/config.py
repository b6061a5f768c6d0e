"""What an experiment is: experiments/*.yaml, checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ddit_eval.errors import DditError
from ddit_eval.policies import Base, Policy, parse_policy


class Strict(BaseModel):
    """Frozen plain data; a name that is not known is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WorldPrompts(Strict):
    """Captions of the world: scenes `start` to `start + count` of the sequence that belongs to `seed`."""

    source: Literal["world"] = "world"
    split: Literal["train", "heldout"] = "heldout"
    count: PositiveInt = 32
    seed: int = 0
    start: int = Field(0, ge=0)


class FilePrompts(Strict):
    """Prompts of a file: text (one a line, # for comments) or .jsonl with "prompt"."""

    source: Literal["file"]
    path: Path
    seed: int = 0
    count: PositiveInt | None = None  # the first ones only


PromptSource = Annotated[WorldPrompts | FilePrompts, Field(discriminator="source")]


def _policy(value: Any) -> BaseModel:
    return value if isinstance(value, BaseModel) else parse_policy(value)


PolicyField = Annotated[Policy, BeforeValidator(_policy)]


class Method(Strict):
    """A row of the table: a policy and a number of steps."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    policy: PolicyField = Field(default_factory=Base)
    steps: PositiveInt | None = None  # the experiment's where not given


class Timing(Strict):
    """How long to measure: blocks of a prompt and a noise, the order of methods drawn anew in each."""

    prompts: PositiveInt = 8
    rounds: PositiveInt = 3
    batch: PositiveInt = 1
    whole: PositiveInt = 2  # of the prompts are timed from text to picture as well
    warmup: PositiveInt = 1
    seed: int = 0
    methods: tuple[str, ...] | None = None  # all where not given


class Study(Strict):
    """The search space of the Optuna study; see `ddit_eval.study`."""

    trials: PositiveInt = 24
    prompts: PositiveInt = 6
    seed: int = 0
    sampler: Literal["tpe", "gp"] = "tpe"
    cost: Literal["flops", "tokens"] = "flops"
    quality: str = "psnr"
    floor: float | None = None  # trials whose quality is below it are infeasible
    tau: tuple[float, float] = (0.5, 10.0)  # in units of the base's median signal of the order
    rho: tuple[float, float] = (0.2, 0.8)
    scales: tuple[tuple[PositiveInt, ...], ...] = ((2,), (4,), (2, 4))
    order: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
    dwell: tuple[PositiveInt, PositiveInt] = (1, 3)
    steps: tuple[PositiveInt, ...] = (12, 18, 24)

    @model_validator(mode="after")
    def _ranges(self) -> Study:
        for name in ("tau", "rho", "dwell"):
            low, high = getattr(self, name)
            if low > high:
                raise DditError(f"{name}: the range {low} to {high} is empty; write the smaller end first")
        if self.tau[0] <= 0:
            raise DditError(f"tau: {self.tau[0]} must be above 0, it is searched on a logarithmic axis")
        for name in ("scales", "order", "steps"):
            if not getattr(self, name):
                raise DditError(f"{name}: give at least one choice")
        return self


class Experiment(Strict):
    """One table of results: a model, prompts, methods and what is measured on them."""

    profile: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")  # the yaml's name where not given
    model: str = "mini-flux"
    adapter: str | None = "mini-flux"
    side: PositiveInt | None = None  # height and width in pixels; the model's own where not given
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    steps: PositiveInt = 24
    guidance_scale: float = 3.5
    true_cfg_scale: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] | None = None  # bfloat16 on a GPU, else float32
    prompts: PromptSource = WorldPrompts(start=0)
    batch: PositiveInt = 1
    reference: str = "base"
    methods: tuple[Method, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ("psnr", "ssim")
    timing: Timing = Field(default_factory=Timing)
    study: Study = Field(default_factory=Study)

    @model_validator(mode="after")
    def _names(self) -> Experiment:
        names = [method.name for method in self.methods]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DditError(f"methods: the name {twice[0]!r} is used twice; each row needs a name of its own")
        for name in (self.reference, *(self.timing.methods or ())):
            if name not in names:
                raise DditError(f"{name!r} is not among the methods ({', '.join(names)})")
        if self.side and (self.height or self.width):
            raise DditError("give either `side` or `height` and `width`, not both")
        return self

    def method(self, name: str) -> Method:
        """The method of that name; raises `DditError` where there is none."""
        for method in self.methods:
            if method.name == name:
                return method
        raise DditError(f"no method {name!r}; there are {', '.join(m.name for m in self.methods)}")

    def steps_of(self, method: Method) -> int:
        return method.steps or self.steps

    def repeat_of(self, method: Method) -> int:
        """How many earlier methods are the same in all but name: a null row is generated anew, not copied."""
        earlier = self.methods[: self.methods.index(method)]
        same = [m for m in earlier if m.policy == method.policy and self.steps_of(m) == self.steps_of(method)]
        return len(same)


def load_experiment(path: Path) -> Experiment:
    """Read and check experiments/*.yaml; raises `DditError` naming file, place and value."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DditError(f"cannot read the experiment {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DditError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise DditError(
            f"{path} must hold `name: value` lines (model, methods, ...), see experiments/quick.yaml"
        )
    return parse_experiment({"profile": Path(path).stem, **raw}, str(path))


def parse_experiment(data: dict[str, Any], where: str) -> Experiment:
    """The experiment that `data` describes; raises `DditError` that starts with `where`."""
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors(include_url=False)]
        raise DditError(f"{where}: " + "; ".join(lines)) from error


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "not a known name"
    value = item.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool | None) else ""
    return f"{place}: {message}{shown}" if place else f"{message}"
