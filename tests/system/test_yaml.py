"""YAML reads as it looks, or is refused in one line that names file and line."""

import pytest

from ddit_eval.errors import DditError
from ddit_eval.system.yaml import BYTES, load_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("+1", 1), ("0x10", 16), ("0o17", 15), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0),
        ("true", True), ("~", None), ("", None), ("yes", "yes"), ("Off", "Off"), ("n", "n"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("2020-01-01", "2020-01-01"), ("'12'", "12"),
        ("&x [1]", [1]), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_are_of_yaml_1_2(text, value):
    read = parse_yaml(f"a: {text}", "F")["a"]
    assert (read, type(read)) == (value, type(value))


def test_an_alias_and_a_merge_are_read():
    assert parse_yaml("a: &x {p: 1, q: 1}\nb: {<<: *x, q: 2}", "F")["b"] == {"p": 1, "q": 2}


def _bomb(item: str) -> str:
    start = f"a0: &a0 {item.format('x: 1')}\n"
    return start + "".join(
        f"a{i}: &a{i} {item.format(', '.join([f'*a{i - 1}'] * 9))}\n" for i in range(1, 12)
    )


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\na: 2", 2, "'a' stands twice"),
        ("b:\n  1: 2\n  '1': 3", 3, "'1' stands twice"),
        ("b:\n - {x: 1, x: 1}", 2, "'x' stands twice"),
        ("a: .nan", 1, ".nan is not a finite number"),
        ("\na: -.INF", 2, "-.INF is not a finite number"),
        ("a: 1e999", 1, "1e999 is not a finite number"),
        ("a: " + "9" * 5000, 1, "too many digits"),
        ("\n\na: !!python/name:os.system x", 3, "is not read"),
        ("a: !!str 3", 1, "is not read"),
        ('a: "\\ud800"', 1, "no text"),
        ("a: 1\nb: '\x00'", 2, "U+0000"),
        ("{a: 1}\n--- {b: 2}", 2, "single document"),
        ("&a [*a]", 1, "too deep"),
        ("a: *nope", 1, "undefined alias"),
        ("{[1]: 2}", 1, "neither a name"),
        ("~: 2", 1, "neither a name"),
        ("a: 1\n b: 2", 2, "not allowed here"),
        (_bomb("[{}]"), 1, "repeats too much"),
        (_bomb("{{<<: [{}]}}"), 1, "line 1"),
    ],
)
def test_what_means_nothing_is_refused_with_its_line(text, line, why, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(DditError) as error:
        load_yaml(file)
    message = str(error.value)
    assert message.startswith(f"{file}, line {line}: ")
    assert why in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"- 1", "name: value"), (b"", "name: value"), (b"text", "name: value"), (b"[" * 100_000, "too deep"),
        ("a: 1".encode("utf-16"), "UTF-8"), (b"a: \xff", "UTF-8"), (b" " * BYTES + b"a: 1", "KiB"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_mapping_is_refused(data, why, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(data)
    with pytest.raises(DditError, match=why):
        load_yaml(file)


def test_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert load_yaml(tmp_path / "x.yaml") == {"a": 1}
