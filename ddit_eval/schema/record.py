"""What a run leaves: a record a sample, an index of them, and the traces of all by method."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainSerializer

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.schema.measured import Measured
from ddit_eval.schema.model import Json, Result, ResultFile

FORMAT: Literal[3] = 3


def _said(step: StepTrace) -> dict[str, Any]:
    """A step less what only steps of several patch sizes have."""
    return {k: v for k, v in asdict(step).items() if v is not None or k == "signals"}


Step = Annotated[StepTrace, PlainSerializer(_said)]


class Sample(Result):
    """How a sample is made. `method` is what its row is called; `repeat` tells null rows apart."""

    model: str
    model_hash: str
    adapter: str | None
    adapter_hash: str | None
    dtype: str
    code: str
    method: str
    policy: Json
    steps: int
    height: int
    width: int
    frames: int = 1  # of a clip; a picture has one
    fps: int = 8  # that a clip is played at
    guidance_scale: float
    true_cfg_scale: float
    prompt: str
    index: int
    seed: int
    repeat: int = 0
    cache: Json | None = None  # beside the policy, as the experiment has them; None: the row has none
    scheduler: Json | None = None
    setup: Json | None = None
    batch: str | None = None  # 12 hex digits of the call that makes it and its place there; None: alone

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width in pixels, and of a clip its frames."""
        return (self.height, self.width, self.frames) if self.frames > 1 else (self.height, self.width)

    def of(self, prompts: str) -> Measured:
        """What the sample's row is measured of. `prompts`: the hash of its set."""
        facts = {name: getattr(self, name) for name in Measured.model_fields if name != "prompts"}
        return Measured(prompts=prompts, **facts)


class Record(Sample, ResultFile):
    """A sample that was made: what each step did; its picture lies beside it as `image`."""

    made_by: ClassVar[str] = "`ddit-eval run EXPERIMENT`"

    format: Literal[3] = FORMAT
    key: str
    image: str
    image_sha256: str
    trace: tuple[Step, ...]


class Index(ResultFile):
    """The records in force, keys by method, and the FLOPs of a transformer call by scale."""

    made_by: ClassVar[str] = "`ddit-eval run EXPERIMENT`"

    methods: dict[str, tuple[str, ...]]
    flops: dict[int, int]


class Trace(Result):
    """A method's steps as prompts x steps; a signal is None where a step had none."""

    scales: tuple[tuple[int, ...], ...]
    timesteps: tuple[tuple[float, ...], ...]
    signals: dict[int, tuple[tuple[float | None, ...], ...]] | None


class Traces(ResultFile):
    """traces.json."""

    made_by: ClassVar[str] = "`ddit-eval evaluate EXPERIMENT`"

    methods: dict[str, Trace]
