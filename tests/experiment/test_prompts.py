from __future__ import annotations

from pathlib import Path

from ddit_eval.experiment.config import FilePrompts, WorldPrompts
from ddit_eval.experiment.prompts import load_prompts, prompts_hash, prompts_of, tuning_prompts


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


def test_the_hash_names_texts_and_seeds() -> None:
    one, two = (load_prompts(WorldPrompts(count=3, seed=s)) for s in (1, 2))
    assert prompts_hash(one) == prompts_hash(list(one)) != prompts_hash(two)
