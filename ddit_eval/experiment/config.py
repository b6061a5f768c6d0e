"""What an experiment is: experiments/*.yaml, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ddit_eval.ddit.policies import Base, Policy, StepView, parse_policy, searchable
from ddit_eval.errors import DditError
from ddit_eval.rivals.row import CacheField, Rival, Scheduler
from ddit_eval.system.plugins import source_of
from ddit_eval.system.settings import (
    Count,
    Distinct,
    Frames,
    Guidance,
    Once,
    Pixels,
    Seed,
    Settings,
    Steps,
    checked,
)
from ddit_eval.system.text import one_line
from ddit_eval.system.yaml import load_yaml


class Captions(Settings):
    """Captions of scenes or clips `start` to `start + count` of the sequence that belongs to `seed`."""

    split: Literal["train", "heldout"] = "heldout"
    seed: Seed = 0
    start: Annotated[int, Field(ge=0, lt=2**32)] = 0


class WorldPrompts(Captions):
    """Of scenes of the world."""

    source: Literal["world"] = "world"
    count: Count = 32


class MovingPrompts(Captions):
    """Of clips of the world in motion."""

    source: Literal["moving-world"]
    count: Count = 16


class FilePrompts(Settings):
    """Prompts of a .txt (one a line), .jsonl, .json, .csv or .tsv file, see `system.prompts`."""

    source: Literal["file"]
    path: Path
    seed: Seed = 0
    start: NonNegativeInt = 0  # so many are left out
    count: Count | None = None  # of the others the first ones only


PromptSource = Annotated[WorldPrompts | MovingPrompts | FilePrompts, Field(discriminator="source")]


def _policy(value: Any) -> Policy:
    if hasattr(value, "decide"):  # a policy already
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a policy is its kind and its values, e.g. {kind: fixed, scale: 2}")
    return parse_policy(value)


PolicyField = Annotated[
    Policy, PlainValidator(_policy), PlainSerializer(lambda policy: policy.model_dump(mode="json"))
]


class Method(Rival):
    """A row of the table: a policy, a number of steps, and what runs beside them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    policy: PolicyField = Field(default_factory=Base)
    steps: Steps | None = None  # the experiment's where not given


class Timing(Settings):
    """How long to measure: blocks of a prompt and a noise, the order of methods drawn anew in each."""

    prompts: Count = 8
    rounds: Count = 3  # at least; more until every interval is as narrow as `within` says
    most: Count = 10  # rounds
    within: Annotated[float, Field(gt=0, lt=1)] = 0.03  # half-width, as a share of a speed-up
    minutes: PositiveFloat | None = None  # for the blocks; further rounds that would end later are not begun
    batch: Count = 1
    whole: Count = 2  # of the prompts are timed from text to picture as well
    warmup: Count = 1
    compile: bool = False  # each method once more with its transformer's blocks compiled
    seed: Seed = 0
    methods: Once[str] | None = None  # all where not given

    @model_validator(mode="after")
    def _rounds(self) -> Timing:
        if self.rounds > self.most:
            raise DditError(f"rounds: {self.rounds} is more than most: {self.most}; raise `most`")
        return self


class Study(Settings):
    """The Optuna study: what is searched, on which prompts, and how long; see `ddit_eval.study`.

    A pair is a range, a longer or nested tuple a list of choices; a range whose ends are equal and a list
    of one are held fixed.
    """

    # How much: `trials`, `confirm` and `heldout` may be raised later, the study then goes on.
    trials: Count = 24
    prompts: Count = 6  # to tune on; none of them is reported
    seeds: Count = 1  # noises a prompt, averaged
    confirm: NonNegativeInt = 4  # so many points of the front are measured again on held-out prompts
    heldout: Count = 8  # these: the first of the experiment's own

    # How trials are chosen: a generation at once, from the generations before it.
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: Seed = 0
    generation: Count = 4  # also the most workers that are ever busy
    startup: Count = 8  # trials at random before the sampler learns

    # What is minimised (as a share of the base model's) and what is kept.
    cost: Literal["flops", "tokens", "latency"] = "flops"  # latency: a table, measured once a machine
    quality: str = "psnr"  # a metric, its first column
    floor: float | None = None  # the worst quality that is still feasible
    memory: PositiveFloat | None = None  # GiB on the device at most; not checked on a CPU

    # When a trial is hopeless: after these shares of the prompts, a complete trial was at most as dear and
    # better by `margin` (in the metric's unit) and two standard errors of the paired difference.
    rungs: Distinct[Annotated[float, Field(gt=0, lt=1)]] = (0.25, 0.5)
    margin: NonNegativeFloat = 1.0

    # The search space.
    rule: Once[str] = ("threshold",)
    steps: Once[Steps] = (12, 18, 24)  # every rule
    scales: Once[Once[PositiveInt]] = ((2,), (4,), (2, 4))  # as far as the adapter has them
    order: Once[Literal[1, 2, 3]] = (1, 2, 3)  # threshold, budget, region
    rho: tuple[float, float] = (0.2, 0.8)  # threshold, budget
    tau: tuple[float, float] = (0.5, 10.0)  # threshold: in units of the base's median signal of the order
    dwell: tuple[PositiveInt, PositiveInt] = (1, 3)  # threshold
    hysteresis: tuple[float, float] = (1.0, 1.0)  # threshold
    warmup: Once[PositiveInt] = (1,)  # threshold: the scale while there is no signal
    share: tuple[float, float] = (0.1, 0.9)  # coarse-first, fine-first, budget: of the steps that are coarse
    budget: tuple[float, float] = (0.3, 0.9)  # region: of the base tokens
    window: Once[PositiveInt] = (2, 3, 4)  # region
    every: tuple[PositiveInt, PositiveInt] = (2, 6)  # skip, mixed
    first: tuple[PositiveInt, PositiveInt] = (1, 4)  # skip, mixed
    last: tuple[NonNegativeInt, NonNegativeInt] = (0, 2)  # skip, mixed
    forecast: Once[Literal[0, 1]] = (0, 1)  # skip, mixed
    gain: tuple[PositiveFloat, PositiveFloat] = (0.3, 1.0)  # skip, mixed: of the forecast
    head: tuple[float, float] = (0.0, 0.6)  # mixed: of the steps, that are coarse at the front
    segments: PositiveInt = 4  # explicit: equal parts of the run, each with a scale of its own

    @model_validator(mode="after")
    def _ranges(self) -> Study:
        ranges = ("tau", "rho", "dwell", "hysteresis", "share", "budget")
        for name in (*ranges, "every", "first", "last", "gain", "head"):
            low, high = getattr(self, name)
            if low > high:
                raise DditError(f"{name}: the range {low} to {high} is empty; write the smaller end first")
        if self.tau[0] <= 0:
            raise DditError(f"tau: {self.tau[0]} must be above 0, it is searched on a logarithmic axis")
        if self.hysteresis[0] < 1:
            raise DditError(f"hysteresis: {self.hysteresis[0]} must be at least 1, which is none")
        for name in ("rho", "share", "budget", "head"):
            low, high = getattr(self, name)
            if low < 0 or high > 1:
                raise DditError(f"{name}: the range {low} to {high} must lie between 0 and 1")
        for rule in self.rule:
            if searchable(rule).mixed and self.cost == "latency":
                raise DditError(
                    "cost: latency is read off a table by scale, which has no steps of several sizes; search "
                    f"`{rule}` with cost: flops"
                )
        if 1 in self.coarse_scales:
            raise DditError("scales: 1 is the base's, which every rule may choose; list the coarse ones")
        return self

    @property
    def coarse_scales(self) -> tuple[int, ...]:
        """Every scale that is listed, ascending."""
        return tuple(sorted({scale for scales in self.scales for scale in scales}))


def scheduler_of(solver: str, shift: float) -> dict[str, Any]:
    """The `scheduler` of a row whose solver is called like one of `Advise`, as plain data; empty where it is
    the pipeline's own, unchanged. Raises `DditError` for one that is none."""
    kind, _, order = solver.partition(":")
    found: dict[str, Any] = {"kind": kind} | ({"shift": shift} if shift != 1 else {})
    if order:
        found |= {"order": int(order) if order.isdecimal() else order}
    if found == {"kind": "own"}:
        return {}
    return checked(Scheduler, found, f"solver {solver!r}").model_dump(mode="json", exclude_none=True)


class Advise(Settings):
    """The search for the best way to a speed-up, of all kinds of rows; see `ddit_eval.advise`.

    A solver is its kind, with an order where it has several: "unipc:3".
    """

    speed_ups: Once[Annotated[float, Field(gt=1)]] = (2.0, 3.0, 5.0)
    minutes: PositiveFloat = 30.0  # on this machine, all in all: as many trials as fit
    trials: Count | None = None  # of each search; what fits where not given
    prompts: Annotated[Count, Field(ge=2)] = 8  # to tune on
    heldout: Annotated[Count, Field(ge=2)] = 32  # to confirm on; the first of the experiment's own, or more
    quality: str = "psnr"  # a metric, its first column
    solver: Once[str] = ("own", "unipc:3", "dpmpp-2m")
    shift: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)  # of the time schedule
    cache: tuple[CacheField, ...] = ()  # each as in a row
    seed: Seed = 0

    @model_validator(mode="after")
    def _can_be_tried(self) -> Advise:
        if self.shift[0] > self.shift[1]:
            raise DditError(f"shift: the range {self.shift[0]} to {self.shift[1]} is empty")
        for solver in self.solver:
            if solver.startswith("heun"):
                raise DditError("solver: heun evaluates a step twice, which no plan of steps can budget for")
            scheduler_of(solver, 1.0)
        return self


class Sets(Settings):
    """Distances of each method's pictures, as a set, to a set of reference pictures."""

    reference: str  # a folder, or scenes of the world: "world:heldout:512:seed9:64px"
    networks: Once[str] = ("reader",)  # whose features
    families: Once[Literal["frechet", "kid", "cmmd", "prdc"]] = ("frechet", "kid")
    seed: Seed = 0


class Oracle(Settings):
    """Every rule against the best schedule there is, see `ddit_eval.oracle.compare`."""

    prompts: Annotated[Count, Field(ge=2)] = 8  # the first so many of the experiment's
    costs: Once[Annotated[float, Field(gt=0, lt=1)]] = (0.85, 0.7, 0.55)  # shares of the base's FLOPs
    every: PositiveInt = 3  # so-many-th step's harm is measured; between them is interpolated
    calibration: str | None = None  # a name, a folder or a file; the adapter's own where not given


class Experiment(Settings):
    """One table of results: a model, prompts, methods and what is measured on them."""

    profile: str = Field("", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*)?$")  # the yaml's name where not given
    model: str = "mini-flux"
    adapter: str | None = "mini-flux"
    side: Pixels | None = None  # height and width in pixels; the model's own where not given
    height: Pixels | None = None
    width: Pixels | None = None
    frames: Frames | None = None  # of a clip; the model's own where not given, 1 for a picture
    fps: Frames | None = None  # frames a second that clips are played at; the model's own, or 8
    steps: Steps = 24
    guidance_scale: Guidance = 3.5
    true_cfg_scale: Guidance = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] | None = None  # bfloat16 on a GPU, else float32
    prompts: PromptSource = WorldPrompts(start=0)
    batch: Count = 1
    reference: str = "base"
    methods: tuple[Method, ...] = Field(min_length=1)
    metrics: Once[str] = ("psnr", "ssim")
    # The loss that still counts as none, see `judging.margins`: the metrics' own or by name, or some of them.
    margins: Literal["own", "strict", "mlperf"] | dict[str, PositiveFloat] = "own"
    sets: Sets | None = None  # set metrics; none where not given
    timing: Timing = Field(default_factory=Timing)
    study: Study = Field(default_factory=Study)
    oracle: Oracle = Field(default_factory=Oracle)
    advise: Advise = Field(default_factory=Advise)

    @model_validator(mode="after")
    def _names(self) -> Experiment:
        names = [method.name for method in self.methods]
        folded = [name.casefold() for name in names]  # files bear these names, on disks that fold case too
        if twice := [name for name in names if folded.count(name.casefold()) > 1]:
            raise DditError(f"methods: the name {twice[0]!r} is used twice; each row needs a name of its own")
        for name in (self.reference, *(self.timing.methods or ())):
            if name not in names:
                raise DditError(f"{name!r} is not among the methods ({', '.join(names)})")
        if self.side and (self.height or self.width):
            raise DditError("give either `side` or `height` and `width`, not both")
        for method in self.methods:
            steps, given = self.steps_of(method), method.scheduler and method.scheduler.sigmas
            if given and len(given) != steps:
                raise DditError(f"{method.name}: {len(given)} sigmas for {steps} steps; give one a step")
            if method.policy.order == 0:  # it reads no signal, so what it cannot decide shows already
                _decide(method, method.calls(steps))
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

        def facts(m: Method) -> tuple[Any, ...]:
            return m.policy, self.steps_of(m), m.beside

        earlier = self.methods[: self.methods.index(method)]
        return sum(facts(m) == facts(method) for m in earlier)


def _decide(method: Method, steps: int) -> None:
    try:
        method.policy.decide(StepView(0, steps))
    except Exception as error:
        if isinstance(error, DditError) or source_of(method.policy) is None:
            raise
        kind, why = method.policy.kind, one_line(error)
        raise DditError(
            f"methods: {method.name}: the policy {kind!r} cannot decide a step ({why}); mend its package"
        ) from error


def with_advice(experiment: Experiment, speed_ups: Sequence[float], minutes: float | None) -> Experiment:
    """The experiment with what the command line says of its `advise`; raises `DditError`."""
    said = {"speed_ups": list(speed_ups) or None, "minutes": minutes}
    plain = experiment.advise.model_dump(mode="json") | {k: v for k, v in said.items() if v is not None}
    return experiment.model_copy(update={"advise": checked(Advise, plain, "advise")})


def load_experiment(path: Path) -> Experiment:
    """Read and check experiments/*.yaml; raises `DditError` naming file, place and value."""
    raw = load_yaml(Path(path))
    return parse_experiment({"profile": Path(path).stem, **raw}, str(path))


def parse_experiment(data: dict[str, Any], where: str) -> Experiment:
    """The experiment that `data` describes; raises `DditError` that starts with `where`."""
    return checked(Experiment, data, where)
