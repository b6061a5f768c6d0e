"""Prompts of files: every format, every text that a prompt can be, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.system.prompts import caption, read_prompts


def test_jsonl_files_hold_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a red star", "other": 1}\n{"prompt": "a cross"}\n')
    assert read_prompts(path) == ["a red star", "a cross"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "geneval.jsonl",
            '{"tag": "colors", "include": [], "prompt": "a red star"}\n{"prompt": "one, two"}\n',
        ),
        ("VBench.json", '[{"prompt_en": "a red star", "dimension": ["color"]}, {"prompt_en": "one, two"}]'),
        ("texts.json", '["a red star", "one, two"]'),
        ("DrawBench.csv", 'Prompts,Category\na red star,Colors\n"one, two",Counting\n'),
        ("PartiPrompts.tsv", "Prompt\tCategory\tChallenge\tNote\na red star\tx\ty\t\none, two\tx\ty\tz\n"),
    ],
)
def test_the_formats_of_benchmarks(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text("\ufeff" + content)  # with the mark that some editors put first
    assert read_prompts(path) == ["a red star", "one, two"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "no prompt"),
        ("a.txt", "# only this\n", "no prompt"),
        ("a.txt", "a star\n\na cross\n", "line 2 is empty"),
        ("a.jsonl", '{"prompt": "x"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", '{"text": "x"}\n', "line 1 has no text"),
        ("a.jsonl", '{"prompt": " "}\n', "line 1 has no text"),
        ("a.jsonl", "", "no prompt"),
        ("a.json", '{"prompt": "x"}', "holds dict; a list"),
        ("a.json", '["x", 3]', "item 2 has no text"),
        ("a.csv", "Category\nColors\n", "line 2 has no text"),
        ("a.tsv", "Prompt\tCategory\nx\ty\n\ty\n", "line 3 has no text"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DditError, match=words) as caught:
        read_prompts(path)
    assert name in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"missing\.txt"):
        read_prompts(tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DditError, match="UTF-8"):
        read_prompts(tmp_path / "latin.txt")


# Nothing in a prompt ends it, and nothing acts.
TEXTS = [
    "a [/x] star", "[red]star", "a $x_{$ star", r"a \n \[b] %s {0} star", "=cmd()", "-5 stars", "@here",
    "'=x", "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb\x1db\x1eb", "cafe\u0301",
    "caf\u00e9", "\u200fstar", "\x1b[31mstar", "\x07", "x" * 10_000, "🌟", " star ",
    "a | `b` | *c* <i>", ":smile:",
]  # fmt: skip


def test_texts_come_through_every_format(tmp_path: Path) -> None:
    import csv

    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt"], *[[text] for text in TEXTS]])
    (tmp_path / "a.json").write_text(json.dumps(TEXTS))
    rows = [json.dumps({"prompt": text}, ensure_ascii=False) for text in TEXTS]
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.jsonl").write_bytes(("\ufeff" + end.join(rows) + end).encode())
        assert read_prompts(tmp_path / "a.jsonl") == TEXTS
        (tmp_path / "a.txt").write_bytes((end.join(TEXTS) + end).encode())
        assert read_prompts(tmp_path / "a.txt") == [text.strip(" ") for text in TEXTS]
    assert read_prompts(tmp_path / "a.csv") == read_prompts(tmp_path / "a.json") == TEXTS
    for text in TEXTS:
        (tmp_path / "b.txt").write_bytes(f"\ufeff{text}\r\n".encode())
        assert caption(tmp_path / "b.txt") == text


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", "a\0b\n", "line 1 has a NUL"),
        ("a.json", '["a\\u0000b"]', "item 1 has a NUL"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "\\ud800"}\n', "line 2 has half a surrogate"),
        ("a.txt", "a star\n \t\n", "line 2 is empty"),
        ("a.csv", "prompt,Prompt\na,b\n", "line 2: 'prompt' is there twice"),
        ("a.csv", "Prompt,note,note\na,b,c\n", "'note' is there twice"),
        ("a.csv", "prompt,note\na cat, a dog,x\n", "3 cells under 2 heads; put quotes"),
        ("a.csv", 'prompt\n"a cat\n', "no row of a table"),
        ("a.json", '[{"prompt": "a", "Prompt": "b"}]', "'prompt' is there twice"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "stands twice"),
        ("a.yaml", "- a star\n", "read from .txt"),
    ],
)
def test_what_is_no_prompt_is_refused_where_it_stands(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DditError, match=why):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    for name in ("a.txt", "a.csv", "a.json", "a.jsonl"):
        (tmp_path / name).write_bytes("prompt\ncaf\u00e9\n".encode(encoding))
        with pytest.raises(DditError, match=rf"{name}, line \d, is not UTF-8"):
            read_prompts(tmp_path / name)
