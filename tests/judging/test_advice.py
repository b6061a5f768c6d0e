"""frontier.json in sentences: what is best, what it loses, and whether coarse patches add anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddit_eval.errors import DditError
from ddit_eval.experiment.belongs import belongs
from ddit_eval.figures.frontier import KINDS
from ddit_eval.figures.of_results import frontier as draw
from ddit_eval.judging.advice import sentences
from ddit_eval.judging.results import load
from ddit_eval.judging.row_words import in_words
from ddit_eval.schema import Frontier, Quality, read, write
from tests.support import fake_results
from tests.support.fake_frontier import frontier, way
from tests.support.made_results import column, field_of

COLUMNS = {name: column(name) for name in ("psnr", "object-accuracy")}


def test_a_best_way_without_a_coarse_patch_is_said_first() -> None:
    first = sentences(frontier(), COLUMNS)[0]
    lost = "PSNR to base and loses +0.020 [-0.010, +0.050] object accuracy"
    assert first == (
        "At 2x on this machine the best way found has no coarse patch: `skip-2` (24 steps, 1 in 2 fine, "
        "between them the velocity forecast with gain 0.5, first 2 fine; 2.05x [1.95, 2.15]) has 30.9 dB "
        f"[29.4, 32.4] {lost}; the best DDiT row `ddit-2` (2.02x [1.92, 2.12]) has 21.0 dB [19.5, 22.5] PSNR "
        "to base."
    )


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (
            (0.8, -0.7, 2.1),
            "; not decided: the best way gains +0.8 dB [-0.7, +2.1] PSNR to base (N = 32) over ",
        ),
        (
            (1.8, 0.7, 3.1),
            "; the best way gains +1.8 dB [+0.7, +3.1] PSNR to base (N = 32) over the best without a ",
        ),
        (
            (-1.8, -3.1, -0.7),
            "; the best way loses against the best without a coarse patch: -1.8 dB [-3.1, -0.7] PSNR ",
        ),
    ],
)
def test_the_interval_decides_what_the_best_way_gains(gain: tuple[float, float, float], said: str) -> None:
    second = sentences(frontier(gain), COLUMNS)[1]
    assert second.startswith("At 3x on this machine the best way found has coarse patches: `mixed-10` (10 ")
    assert said in second
    assert "; without one `skip-3` (24 steps, solver unipc (order 3, shift 1.5), 1 in 3 fine" in second
    assert "the best DDiT row `ddit-fast` (" in second


def test_a_metric_of_which_less_is_better_turns_the_gain() -> None:
    lower = {"psnr": column("psnr", direction="lower")}
    assert "without a coarse patch: -1.8 dB [-3.1, -0.7]" in sentences(frontier((1.8, 0.7, 3.1)), lower)[1]


def test_what_is_out_of_reach_and_a_bad_clock_are_told() -> None:
    third = sentences(frontier(), COLUMNS)[2]
    assert third == "At 20x on this machine no way was found. The fastest way is 5.4x."
    bad = frontier(clock="the base again is at 1.2x")
    start = "At 2x as predicted (no time is known: the base again is at 1.2x) the best way"
    assert sentences(bad, COLUMNS)[0].startswith(start)
    assert sentences(bad, COLUMNS)[1].startswith("At 3x as predicted the best way")
    assert "no quality measured" not in sentences(bad, {})[0]
    untimed = way("a", {"kind": "fixed", "scale": 4}, 2.0, 20.0).model_copy(update={"speedup": None})
    assert "2.10x by FLOPs" in sentences(replaced(untimed), COLUMNS)[0]
    assert "was not measured" not in sentences(replaced(untimed), COLUMNS)[0]


def test_intervals_of_several_targets_are_called_unadjusted_once() -> None:
    data, note = frontier(), " Intervals are per target, not adjusted for their number."
    first, second, third = data.targets
    several = data.model_copy(
        update={"targets": (first.model_copy(update={"best": second.best}), second, third)}
    )
    assert [note in sentence for sentence in sentences(several, COLUMNS)] == [False, False, True]
    assert note not in " ".join(sentences(data, COLUMNS))


def replaced(best):  # type: ignore[no-untyped-def]
    data = frontier()
    return data.model_copy(update={"targets": (data.targets[0].model_copy(update={"best": best}),)})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"name": "a"}, "24 steps"),
        ({"policy": {"kind": "explicit", "scales": [1, 0, 2]}},
         "24 steps, steps 1.2 (. skipped, 2 at 2p)"),
        ({"steps": 6, "setup": "a.b:c"}, "6 steps, set up by a.b:c"),
        ({"setup": {"call": "a.b:c", "with": {"x": 1}}}, "24 steps, set up by a.b:c"),
        ({"policy": {"kind": "coarse-first", "steps": 5, "scale": 4}}, "24 steps, the first 5 at 4p"),
        ({"policy": {"kind": "fine-first", "steps": 5}}, "24 steps, the first 5 fine, then 2p"),
        ({"policy": {"kind": "mixed", "coarse": 3, "every": 3, "between": 4, "last": 1}},
         "24 steps, the first 3 at 2p, 1 in 3 fine, the others at 4p, last 1 fine"),
        ({"policy": {"kind": "mixed"}}, "24 steps, every step fine"),
        ({"policy": {"kind": "their-own", "odd": True}}, "24 steps, the rule their-own"),
    ],
)  # fmt: skip
def test_a_row_in_words(row: dict, words: str) -> None:
    assert in_words(row, 24) == words


def test_the_figure_has_three_marks_a_target_and_says_what_speed_is() -> None:
    figure = draw(field_of(30.0), frontier())
    assert figure is not None
    axes = figure.axes[0]
    marks = [line for line in axes.lines if line.get_gid()]
    assert len(marks) == 6
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [name for name, *_ in KINDS.values()]
    assert {text.get_text() for text in axes.texts} >= {"mixed-10", "skip-3", "ddit-fast"}
    bad = draw(field_of(30.0), frontier(clock="bad"))
    assert bad is not None
    assert "FLOPs" in bad.axes[0].get_xlabel()
    assert draw(field_of(30.0), frontier(targets=())) is None


def test_a_frontier_of_other_weights_is_refused(tmp_path: Path) -> None:
    folder = fake_results.write(tmp_path, prompts=4, trials=2)
    assert load(folder).frontier is None
    write(folder / "frontier.json", frontier())
    assert load(folder).frontier == frontier()
    data = frontier()
    best = data.targets[0].best
    assert best is not None
    other = best.model_copy(update={"of": best.of.model_copy(update={"model_hash": "f" * 12})})
    write(folder / "frontier.json", replaced(other))
    with pytest.warns(UserWarning, match=r"frontier\.json, way 'skip-2'.*model_hash.*ddit-eval advise"):
        assert load(folder).frontier is None


def test_a_way_with_something_beside_it_has_code_of_its_own(tmp_path: Path) -> None:
    """`code_of` adds the rivals' code to that of the policies; a way without any has the base's."""
    quality = read(fake_results.write(tmp_path, prompts=4, trials=2) / "quality.json", Quality)

    def coded(**beside: Any) -> Frontier:
        best = way("w", {"kind": "skip", "every": 2}, 2.0, 30.0)
        of = best.of.model_copy(update={"code": "5" * 12, **beside})
        return replaced(best.model_copy(update={"of": of}))

    belongs(quality, frontier=coded(scheduler={"kind": "unipc"}))
    with pytest.raises(DditError, match=r"way 'w'.* code is '5{12}'"):
        belongs(quality, frontier=coded())
    with pytest.raises(DditError, match=r"way 'w'.* dtype is 'float16'"):
        belongs(quality, frontier=coded(scheduler={"kind": "unipc"}, dtype="float16"))
