from __future__ import annotations

from pathlib import Path

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.config import FilePrompts, WorldPrompts
from ddit_eval.experiment.prompts import load_prompts, prompts_hash, prompts_of, read_file, tuning_prompts


def test_world_prompts_are_stable_and_do_not_depend_on_the_count() -> None:
    few, many = (load_prompts(WorldPrompts(count=n, seed=1)) for n in (3, 8))
    assert many[:3] == few
    assert [p.index for p in many] == list(range(8))
    assert len({p.seed for p in many}) == 8
    assert all(0 <= p.seed < 2**31 for p in many)
    assert load_prompts(WorldPrompts(count=3, seed=2))[0].text != few[0].text


def test_seeds_are_fixed_for_ever() -> None:
    # Other numbers would make every published record irreproducible.
    assert prompts_of(["a red star"], seed=0)[0].seed == 128691998


def test_tuning_prompts_are_none_of_the_reported_ones() -> None:
    source = WorldPrompts(count=16, seed=1)
    reported = {p.text for p in load_prompts(source)}
    tuning = tuning_prompts(source, 6)
    assert len(tuning) == 6
    assert not reported & {p.text for p in tuning}


def test_text_files_hold_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# a comment\na red star\n  a blue cross  \n")
    prompts = load_prompts(FilePrompts(source="file", path=path))
    assert [p.text for p in prompts] == ["a red star", "a blue cross"]
    assert len(load_prompts(FilePrompts(source="file", path=path, count=1))) == 1


def test_jsonl_files_hold_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a red star", "other": 1}\n{"prompt": "a cross"}\n')
    assert read_file(path) == ["a red star", "a cross"]


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
    assert read_file(path) == ["a red star", "one, two"]


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
        read_file(path)
    assert name in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"missing\.txt"):
        read_file(tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DditError, match="UTF-8"):
        read_file(tmp_path / "latin.txt")


def test_the_hash_names_texts_and_seeds() -> None:
    one, two = (load_prompts(WorldPrompts(count=3, seed=s)) for s in (1, 2))
    assert prompts_hash(one) == prompts_hash(list(one)) != prompts_hash(two)
