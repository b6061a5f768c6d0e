"""What all result files have in common: frozen models, intervals as JSON, one reader and one writer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
)
from pydantic.functional_serializers import model_serializer

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.system.files import digest, write_json
from ddit_eval.system.read import read_json
from ddit_eval.system.settings import explain

CHECKSUM = "checksum"  # of all else in a file


def _in_order(interval: stats.Interval) -> stats.Interval:
    if interval.low > interval.high:
        raise ValueError(f"the low end {interval.low} lies above the high end {interval.high}")
    if not 0 <= interval.infinite <= interval.n:
        raise ValueError(f"{interval.infinite} of {interval.n} samples cannot be infinite")
    return interval


def _positive(interval: stats.Interval) -> stats.Interval:
    ends = [end for end in (interval.low, interval.high) if not math.isnan(end)]  # of one sample: none
    if not all(0 < number < math.inf for number in (interval.value, *ends)):
        raise ValueError(f"{interval} is no ratio: it must be positive and finite")
    return interval


# Numbers by what they mean, so that one which means nothing is refused.
Number = stats.Number
Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[Finite, Field(ge=0)]
Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, le=1)]
Interval = Annotated[stats.Interval, AfterValidator(_in_order), PlainSerializer(stats.Interval.to_json)]
Ratio = Annotated[Interval, AfterValidator(_positive)]
Direction = Literal["higher", "lower"]
Json = dict[str, Any]  # what is another's to define: a policy, parameters of a trial


class Result(BaseModel):
    """Frozen plain data; an unknown name is an error. Of what is optional, None leaves no line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        data = serialise(self).items()
        return {k: v for k, v in data if v is not None or k not in fields or fields[k].is_required()}

    def plain(self) -> Json:
        """The JSON form."""
        return self.model_dump(mode="json")


class ResultFile(Result):
    """A model that a file of its own holds. `made_by`: the command that makes the file anew."""

    made_by: ClassVar[str]


F = TypeVar("F", bound=ResultFile)


def write(path: Path, content: ResultFile) -> None:
    """Write a result file, whole or not at all, with the checksum of what it holds."""
    plain = content.plain()
    write_json(path, plain | {CHECKSUM: digest(plain, 64)})


def read(path: Path, model: type[F]) -> F:
    """The content of a result file.

    Raises `DditError` naming file, place and the command that makes it anew, where it is missing, damaged,
    another's, of an older version or not as it was written.
    """
    remedy = f"make it anew: {model.made_by}"
    plain = read_json(path, f"{remedy[0].upper()}{remedy[1:]}.")
    checksum = plain.pop(CHECKSUM, None) if isinstance(plain, dict) else None
    try:
        content = model.model_validate(plain)
    except ValidationError as error:
        what = f"{path} does not read as {model.__name__}"
        raise DditError(f"{explain(what, error, model, most=1)}; {remedy}") from None
    if checksum != digest(plain, 64):
        raise DditError(f"{path} is not as it was written: its checksum does not fit what it holds; {remedy}")
    return content
