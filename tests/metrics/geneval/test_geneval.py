"""GenEval's protocol: verdicts worked out by hand for each task, the position rule, files and summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ddit_eval.errors import DditError
from ddit_eval.metrics import geneval
from ddit_eval.metrics.geneval import Clause, Detection, Metadata, Rules
from ddit_eval.metrics.geneval.colours import GREY, crop
from ddit_eval.metrics.geneval.protocol import iou, kept
from ddit_eval.world import caption, render, sample_scenes

PICTURE = torch.zeros(3, 100, 100)


class Told:
    """A detector that finds what it is told; colours are those of the detections."""

    name = "told"

    def __init__(self, found: Mapping[str, Sequence[Detection]]) -> None:
        self.found = found

    def detect(self, picture: Tensor) -> Mapping[str, Sequence[Detection]]:
        return self.found

    def colours(self, picture: Tensor, found: Sequence[Detection], name: str) -> Sequence[str]:
        return [one.colour or "" for one in found]


def at(x: float, y: float, colour: str | None = None, score: float = 0.95, side: float = 10) -> Detection:
    """A square box around a centre."""
    return Detection((x - side / 2, y - side / 2, x + side / 2, y + side / 2), score, colour=colour)


def line(tag: str, *include: dict[str, Any], exclude: Sequence[dict[str, Any]] = ()) -> Metadata:
    data = {"tag": tag, "prompt": "a photo", "include": list(include), "exclude": list(exclude)}
    return geneval.parse_metadata(data)


SINGLE = line("single_object", {"class": "bench", "count": 1})
TWO = line("two_object", {"class": "bench", "count": 1}, {"class": "dog", "count": 1})
COUNT = line("counting", {"class": "dog", "count": 2}, exclude=[{"class": "dog", "count": 3}])
COLOURED = line("colors", {"class": "dog", "count": 1, "color": "red"})
POSITION = line(
    "position", {"class": "dog", "count": 1}, {"class": "bench", "count": 1, "position": ["left of", 0]}
)
BOUND = line(
    "color_attr",
    {"class": "dog", "count": 1, "color": "red"},
    {"class": "bench", "count": 1, "color": "green"},
)


@pytest.mark.parametrize(
    ("metadata", "found", "reason"),
    [
        (SINGLE, {"bench": [at(1, 1)]}, ""),
        (SINGLE, {"bench": [at(1, 1), at(50, 50)], "dog": [at(9, 9)]}, ""),  # more is no fault
        (SINGLE, {"dog": [at(1, 1)]}, "expected bench>=1, found 0"),
        (SINGLE, {"bench": [at(1, 1, score=0.3)]}, "expected bench>=1, found 0"),  # above .3, not at it
        (TWO, {"bench": [at(1, 1)], "dog": [at(1, 1)]}, ""),
        (TWO, {}, "expected bench>=1, found 0\nexpected dog>=1, found 0"),
        (COUNT, {"dog": [at(1, 1), at(50, 50)]}, ""),
        (COUNT, {"dog": [at(1, 1), at(50, 50, score=0.9)]}, "expected dog>=2, found 1"),  # counted above .9
        (COUNT, {"dog": [at(1, 1), at(50, 50), at(90, 90)]}, "expected dog<3, found 3"),
        (COUNT, {"dog": [at(1, 1), at(50, 50), at(90, 90, score=0.8)]}, ""),
        (COLOURED, {"dog": [at(1, 1, "red")]}, ""),
        (COLOURED, {"dog": [at(1, 1, "blue")]}, "expected red dog>=1, found 0 red; and 1 blue"),
        # The surest dog alone is looked at.
        (
            COLOURED,
            {"dog": [at(1, 1, "red", 0.5), at(50, 50, "blue", 0.6)]},
            "expected red dog>=1, found 0 red; and 1 blue",
        ),
        (POSITION, {"dog": [at(50, 50)], "bench": [at(20, 50)]}, ""),
        (
            POSITION,
            {"dog": [at(50, 50)], "bench": [at(80, 50)]},
            "expected bench left of target, found right of target",
        ),
        (
            POSITION,
            {"dog": [at(50, 50)], "bench": [at(50, 50)]},
            "expected bench left of target, found  target",
        ),
        (
            POSITION,
            {"bench": [at(20, 50)]},
            "expected dog>=1, found 0\nno target for bench to be left of",
        ),
        (BOUND, {"dog": [at(1, 1, "red")], "bench": [at(50, 50, "green")]}, ""),
        (
            BOUND,
            {"dog": [at(1, 1, "green")], "bench": [at(50, 50, "red")]},
            "expected red dog>=1, found 0 red; and 1 green\n"
            "expected green bench>=1, found 0 green; and 1 red",
        ),
    ],
)
def test_verdicts_by_hand(metadata: Metadata, found: dict[str, list[Detection]], reason: str) -> None:
    result = geneval.measure(PICTURE, metadata, Told(found), "0000.png")
    assert (result.correct, result.reason) == (reason == "", reason)


def test_colours_of_several_are_listed_in_geneval_s_order() -> None:
    two = line("colors", {"class": "dog", "count": 2, "color": "red"})
    dogs = [at(1, 1, "white", 0.9), at(2, 2, "orange", 0.8)]
    assert geneval.measure(PICTURE, two, Told({"dog": dogs})).reason == (
        "expected red dog>=2, found 0 red; and 1 orange, 1 white"
    )


@pytest.mark.parametrize(
    ("dx", "dy", "said"),
    [
        # Sides of 10: both margins are .1 (10 + 10) = 2 px.
        (-30, 0, ("left of",)),
        (30, 0, ("right of",)),
        (0, -30, ("above",)),
        (0, 30, ("below",)),
        (-30, -30, ("left of", "above")),  # 28 / 42.4 = .66 each
        (-30, 15, ("left of",)),  # 28 / 33.5 and 13 / 33.5 = .39
        (-2, 0, ()),  # just at the margin
        (-2.5, 0, ()),  # .5 / 2.5 = .2
        (-4, 0, ()),  # 2 / 4 is not above 1/2
        (-4.1, 0, ("left of",)),  # 2.1 / 4.1 = .51
        (0, 0, ()),
    ],
)
def test_the_position_rule_by_hand(dx: float, dy: float, said: tuple[str, ...]) -> None:
    assert geneval.relations(at(50 + dx, 50 + dy).box, at(50, 50).box) == said


def test_the_margin_is_that_of_both_sizes() -> None:
    # Widths 40 and 20: a margin of 6; 14 / 20 = .7. At a margin of .3: 18, and 2 / 20.
    one, other = at(30, 50, side=40).box, at(50, 50, side=20).box
    assert geneval.relations(one, other) == ("left of",)
    assert geneval.relations(one, other, margin=0.3) == ()


places = st.floats(0, 100).map(lambda v: round(v, 2))


@settings(max_examples=60, deadline=None)
@given(places, places, places, places, st.integers(1, 30), st.integers(1, 30))
def test_exchanged_boxes_have_opposite_relations(
    x: float, y: float, u: float, v: float, side: int, other: int
) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    one, two = at(x, y, side=side).box, at(u, v, side=other).box
    forth, back = geneval.relations(one, two), geneval.relations(two, one)
    assert {opposite[name] for name in forth} == set(back)


def test_which_detections_are_kept() -> None:
    many = [at(i, i, score=i / 100) for i in range(40, 90)]
    assert [one.score for one in kept(many, 0.3, Rules())] == [i / 100 for i in range(89, 73, -1)]
    near = [at(50, 50, score=0.5), at(51, 50, score=0.9), at(90, 90, score=0.4)]
    assert len(kept(near, 0.3, Rules())) == 3
    assert [one.score for one in kept(near, 0.3, Rules(overlap=0.5))] == [0.9, 0.4]
    # Boxes whose last pixel counts: 11 x 11 px each, 10 x 11 in common.
    assert iou(at(50, 50).box, at(51, 50).box) == pytest.approx(110 / (121 + 121 - 110))
    assert iou(at(0, 0).box, at(90, 90).box) == 0


def save(folder: Path, index: int, metadata: dict[str, Any], pictures: Sequence[np.ndarray]) -> None:
    place = folder / f"{index:05d}"
    (place / "samples").mkdir(parents=True)
    (place / "metadata.jsonl").write_text(json.dumps(metadata))
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(place / "samples" / f"{number:04d}.png")


class Bright:
    """A picture that is bright holds a dog."""

    name = "bright"

    def detect(self, picture: Tensor) -> Mapping[str, Sequence[Detection]]:
        return {"dog": [at(5, 5)]} if float(picture.mean()) > 0.5 else {}

    def colours(self, picture: Tensor, found: Sequence[Detection], name: str) -> Sequence[str]:
        return ["white"] * len(found)


def test_a_folder_and_its_summary(tmp_path: Path) -> None:
    dark, bright = (np.full((8, 8, 3), level, np.uint8) for level in (0, 255))
    one = {"tag": "single_object", "prompt": "a dog", "include": [{"class": "dog", "count": 1}]}
    red = {"tag": "colors", "prompt": "red", "include": [{"class": "dog", "count": 1, "color": "red"}]}
    save(tmp_path, 0, one, [dark, bright])
    save(tmp_path, 1, one | {"prompt": "one dog"}, [dark, dark])
    save(tmp_path, 2, red, [bright])
    (tmp_path / "notes").mkdir()
    (tmp_path / "00000" / "grid.png").write_bytes(b"not looked at")
    results = geneval.evaluate(tmp_path, Bright())
    assert [r.correct for r in results] == [False, True, False, False, False]
    got = geneval.summary(results, "bright")
    assert (got["images"], got["prompts"]) == (5, 3)
    assert got["correct_images"] == pytest.approx(1 / 5)
    assert got["correct_prompts"] == pytest.approx(1 / 3)
    scores = {tag: task["score"] for tag, task in got["tasks"].items()}
    assert scores == {
        "single_object": 0.25,
        "colors": 0.0,
    }
    assert got["overall"] == pytest.approx(0.125)
    assert got["tasks"]["single_object"]["interval"]["n"] == 2
    json.dumps(got, allow_nan=False)
    geneval.write_results(tmp_path / "results.jsonl", results)
    lines = [json.loads(text) for text in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    assert json.loads(lines[0]["metadata"]) == one
    assert json.loads(lines[1]["details"]) == {"dog": [[0, 0, 10, 10, 0.95]]}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DditError, match="there is no folder"):
        geneval.evaluate(tmp_path / "none", Bright())
    with pytest.raises(DditError, match="holds no <index>"):
        geneval.evaluate(tmp_path, Bright())
    with pytest.raises(DditError, match="needs results"):
        geneval.summary([])
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text('{"tag": "colors", "prompt": "x", "include": [{"class": "dog"}]}\n')
    with pytest.raises(DditError, match=r"line 1 is no metadata of GenEval \(KeyError: 'count'\)"):
        geneval.read_prompts(path)
    path.write_text("\nno json\n")
    with pytest.raises(DditError, match="line 2 is no JSON"):
        geneval.read_prompts(path)
    later = {"class": "dog", "count": 1, "position": ["left of", 0]}
    with pytest.raises(DditError, match="index of an earlier clause"):
        line("position", later)
    with pytest.raises(DditError, match=r"c9d0c4f2.*WorldDetector"):
        geneval.official_detector()


def test_metadata_read_and_written_is_the_same(tmp_path: Path) -> None:
    lines = [m.to_json() for m in (SINGLE, TWO, COUNT, COLOURED, POSITION, BOUND)]
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("".join(f"{json.dumps(data)}\n" for data in lines))
    assert geneval.read_prompts(path) == [SINGLE, TWO, COUNT, COLOURED, POSITION, BOUND]
    assert [m.tag for m in geneval.read_prompts(path)] == list(geneval.TASKS)


# The captioned world.


def test_captions_become_metadata() -> None:
    def tags(text: str) -> list[str]:
        return [m.tag for m in geneval.metadata_of(text)]

    assert tags("a red star in the middle over plain white") == ["single_object", "colors"]
    assert tags("a red star above a blue square") == ["two_object", "color_attr", "position"]
    assert tags("a red star above a blue star") == ["counting"]
    assert tags("a nice day") == []
    position = geneval.metadata_of("a red star left of a blue square")[2]
    assert position.include == (Clause("square"), Clause("star", position=("left of", 0)))
    counting = geneval.metadata_of("a red star above a blue star")[0]
    assert (counting.include, counting.exclude) == ((Clause("star", 2),), (Clause("star", 3),))


def test_true_scenes_pass_and_swapped_ones_fail() -> None:
    scenes = sample_scenes(seed=8, start=0, count=48, split="heldout")
    pictures, texts = torch.from_numpy(render(scenes, 64)), [caption(scene) for scene in scenes]
    own = geneval.summary(geneval.world_results(pictures, texts))
    assert set(own["tasks"]) <= set(geneval.TASKS)
    assert own["overall"] > 0.85
    assert own["tasks"]["position"]["score"] > 0.8
    swapped = geneval.summary(geneval.world_results(pictures, texts[1:] + texts[:1]))
    assert swapped["overall"] < 0.4
    # One picture through the detector is what all of them are together.
    one = geneval.measure(pictures[0], geneval.metadata_of(texts[0])[0], geneval.WorldDetector())
    assert one.correct == geneval.world_results(pictures[:1], texts[:1])[0].correct
    with pytest.raises(DditError, match="one caption a picture"):
        geneval.world_results(pictures, texts[:2])


# Colours.


def test_an_object_is_cut_out_on_grey() -> None:
    picture = torch.zeros(3, 10, 10)
    mask = np.zeros((10, 10), bool)
    mask[2:4, 3:6] = True
    got = crop(picture, Detection((2.6, 1.9, 7.2, 5.1), mask=mask))
    assert got.shape == (3, 3, 4)
    assert float(got[0, 0, 0]) == 0
    assert float(got[0, 2, 3]) == pytest.approx(GREY)
    assert crop(picture, Detection((12, 12, 12, 12))).shape == (3, 1, 1)


def test_the_colour_is_the_nearest_caption_s(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddit_eval.metrics.geneval import colours

    eye = torch.eye(len(geneval.COLOURS))

    def captions(clip: Any, texts: Sequence[str]) -> Tensor:
        assert texts[:3] == [
            "a photo of a red dog",
            "a photo of a red-colored dog",
            "a photo of a red object",
        ]
        return torch.stack([eye[next(i for i, c in enumerate(geneval.COLOURS) if c in t)] for t in texts])

    monkeypatch.setattr(colours, "caption_features", captions)
    monkeypatch.setattr(colours, "picture_features", lambda clip, p: eye[round(float(p.mean()) * 9)][None])
    picture = torch.zeros(3, 10, 20)
    picture[..., 10:] = 4 / 9
    found = [Detection((0, 0, 10, 10)), Detection((10, 0, 20, 10))]
    clip: Any = None
    assert geneval.clip_colours(clip, picture, found, "dog") == ["red", "blue"]
    assert geneval.clip_colours(clip, picture, [], "dog") == []
