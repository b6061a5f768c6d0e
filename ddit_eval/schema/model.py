"""What all result files have in common: frozen models, intervals as JSON, one reader and one writer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, SerializerFunctionWrapHandler, ValidationError
from pydantic.functional_serializers import model_serializer

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.system.files import write_json

Number = stats.Number
Interval = Annotated[stats.Interval, PlainSerializer(stats.Interval.to_json)]
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
    """Write a result file, whole or not at all."""
    write_json(path, content.plain())


def read(path: Path, model: type[F]) -> F:
    """The content of a result file.

    Raises `DditError` naming file, place and the command that makes it anew, where it is missing, damaged,
    another's or of an older version.
    """
    remedy = f"make it anew: {model.made_by}"
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DditError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        what = f"{path} does not read as {model.__name__}"
        raise DditError(f"{what}: {_explain(first)}{more}; {remedy}") from None


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "the whole"
    if item["type"] == "missing":
        return f"{place} is not there"
    if item["type"] == "extra_forbidden":
        return f"{place} is not a known name"
    return f"{place}: {item['msg'].removeprefix('Value error, ')}"
