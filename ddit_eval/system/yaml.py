"""YAML that means one thing: YAML 1.2's core schema, so that numbers and words read as they look."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from ddit_eval.errors import DditError
from ddit_eval.system.read import check_regular, read_text

BYTES, NODES, DEPTH = 2**17, 100_000, 50  # nodes: with those that aliases repeat


class _Loader(yaml.SafeLoader):
    """No tags, no key twice, no number that is not finite; `yes`, `1:30`, `1_000` and dates are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if getattr(event, "tag", None):
            raise _refuse(f"the tag {event.tag} is not read; write the bare value", event)
        return super().compose_node(parent, index)

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        self.left = NODES
        if node is not None:
            self._bound(node, 0)
        return node

    def _bound(self, node: Any, depth: int) -> None:
        self.left -= 1
        if depth > DEPTH or self.left < 0:
            raise _refuse("nests too deep or repeats too much by aliases; write it out", node)
        if isinstance(node, yaml.MappingNode):
            self._unique([key for key, _ in node.value])
        if isinstance(node, yaml.CollectionNode):
            for item in node.value:
                for part in item if isinstance(item, tuple) else (item,):
                    self._bound(part, depth + 1)

    def _unique(self, keys: list[Any]) -> None:
        seen: set[str] = set()
        for key in keys:
            merge = key.tag == "tag:yaml.org,2002:merge"
            name = key.value if merge else self.construct_object(key, deep=True)
            if type(name) not in (str, int):
                raise _refuse(f"the key {name!r} is neither a name nor a whole number", key)
            if str(name) in seen:
                raise _refuse(f"the key {str(name)!r} stands twice; keep one", key)
            seen.add(str(name))

    def integer(self, node: Any) -> int:
        text = node.value
        if len(text) > 100:
            raise _refuse(f"the number {text[:20]}... has too many digits", node)
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)

    def real(self, node: Any) -> float:
        text = re.sub(r"\.(?=inf|nan)", "", node.value.lower())
        if not math.isfinite(value := float(text)):
            raise _refuse(f"{node.value} is not a finite number; write one", node)
        return value

    def text(self, node: Any) -> str:
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", node.value):
            raise _refuse(f"{node.value!r} holds a character that is no text; leave it out", node)
        return str(node.value)


def _refuse(problem: str, at: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, at.start_mark)


for _tag, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", [*"tTfF"]),
    ("int", r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", [*"-+0123456789"]),
    (
        "float",
        r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        [*"-+.0123456789"],
    ),
    ("merge", r"^<<$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
for _tag, _read in (("int", _Loader.integer), ("float", _Loader.real), ("str", _Loader.text)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _read)


def parse_yaml(text: str, what: str) -> Any:
    """The value that a YAML text says. `what`: its file or option, for messages.

    Raises `DditError` of one line that names `what`, the line and the remedy.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise DditError(f"{what} nests too deep; write it out") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise DditError(
            f"{what}, line {line}: U+{int(error.character):04X} is no character of a text; leave it out"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(filter(None, (error.context, error.problem)))
        raise DditError(f"{what}, line {mark.line + 1 if mark else 1}: {why}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; raises `DditError` naming file, line and remedy."""
    check_regular(path)
    if path.stat().st_size > BYTES:
        raise DditError(f"{path} is over {BYTES >> 10} KiB, which no YAML of ours is; name another file.")
    found = parse_yaml(read_text(path), str(path))
    if not isinstance(found, dict):
        raise DditError(f"{path} must hold `name: value` lines, as those in experiments/ do.")
    return found
