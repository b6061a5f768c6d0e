from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures import adherence, lpips, reader_lpips
from ddit_eval.metrics.pictures.psnr import psnr
from ddit_eval.metrics.pictures.ssim import ssim
from ddit_eval.world import caption, parse, render, sample_scenes
from ddit_eval.world.reader import Reader
from ddit_eval.world.scene import COLOURS, SHAPES, TEXTURES
from experiments.recipes.score import object_accuracy


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Thing:
    shape: str
    colour: str
    x: float = 0.5
    y: float = 0.5
    texture: str = "solid"
    area: float = 0.1


PAIR = parse("a red star above a striped blue square over plain white")
RIGHT = [Thing("star", "red", 0.5, 0.3), Thing("square", "blue", 0.52, 0.7, "striped")]


def test_psnr_of_independent_noise_is_that_of_its_variance() -> None:
    # E (a - b)^2 = 2 / 12 for uniform noise: 7.78 dB. Subtracted as bytes it would read about 28.
    values = psnr(noise(4, 3, 64, 64, seed=0), noise(4, 3, 64, 64, seed=1))
    assert values.tolist() == pytest.approx([10 * math.log10(6)] * 4, abs=0.15)


def test_psnr_and_ssim_agree_with_torchmetrics_picture_by_picture() -> None:
    a = noise(3, 3, 32, 40, seed=2)
    b = (a + 0.1 * noise(3, 3, 32, 40, seed=3)).clamp(0, 1)
    for one, other, p, s in zip(a, b, psnr(a, b), ssim(a, b), strict=True):
        one, other = one[None], other[None]
        assert float(p) == pytest.approx(float(peak_signal_noise_ratio(one, other, data_range=1.0)), rel=1e-5)
        golden = structural_similarity_index_measure(one.double(), other.double(), data_range=1.0)
        assert float(s) == pytest.approx(float(golden), abs=1e-12)


def test_identical_pictures() -> None:
    a = noise(1, 3, 32, 32, seed=4)
    assert metrics.get("psnr")(a, a) == {"psnr": [math.inf]}
    assert metrics.get("ssim")(a, a)["ssim"] == pytest.approx([1.0])
    bright = torch.full((1, 3, 32, 32), 0.99)
    assert ssim(bright, bright).tolist() == [1.0]  # float32 would lose it


def test_values_do_not_depend_on_the_batch() -> None:
    a, b = noise(5, 3, 32, 32, seed=5), noise(5, 3, 32, 32, seed=6)
    for measure in (psnr, ssim):
        singly = torch.cat([measure(a[i : i + 1], b[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(measure(a, b), singly)


def test_feature_distance_closed_forms() -> None:
    along_x, along_y = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    along_x[:, 0], along_y[:, 1] = 5.0, 0.1
    same = reader_lpips.feature_distance([along_x], [2 * along_x])
    orthogonal = reader_lpips.feature_distance([along_x, along_x], [along_y, along_x])
    assert float(same) == pytest.approx(0.0, abs=1e-6)  # length does not matter
    assert float(orthogonal) == pytest.approx(1.0)  # 2 in one layer, 0 in the other
    assert torch.isfinite(reader_lpips.unit(torch.zeros(1, 2, 1, 1))).all()


def test_reader_lpips_orders_blur_by_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reader = Reader().eval()
    monkeypatch.setattr("ddit_eval.metrics.pictures.reader_lpips.load_reader", lambda: reader)
    a = noise(2, 3, 64, 64, seed=7)
    little, much = ((1 - w) * a + w * a.mean((2, 3), keepdim=True) for w in (0.1, 0.6))
    zero, near, far = (reader_lpips.reader_lpips(x, a) for x in (a, little, much))
    assert zero.tolist() == [0.0, 0.0]
    assert (near > 0).all()
    assert (far > near).all()


def test_everything_right() -> None:
    assert astuple(adherence.score(PAIR, RIGHT))[:6] == (1,) * 6
    assert math.isnan(adherence.score(PAIR, RIGHT).place)  # the prompt names none


def test_an_object_serves_only_one_thing() -> None:
    twice = parse("a red star above a red star")
    got = adherence.score(twice, [Thing("star", "red")])
    assert (got.object, got.shape, got.count, got.relation) == (0.5, 0.5, 0.0, 0.0)


def test_a_whole_object_goes_before_two_halves() -> None:
    # Each prompted thing could take half of what the other needs whole.
    found = [Thing("star", "red"), Thing("square", "red"), Thing("star", "blue")]
    matched = adherence.match(PAIR.things, found)
    assert matched[0] == found[0]
    assert adherence.score(PAIR, found).object == 0.5


def test_swapped_colours_are_no_objects() -> None:
    got = adherence.score(PAIR, [Thing("star", "blue", y=0.3), Thing("square", "red", y=0.7)])
    assert got.object == 0.0
    assert got.shape + got.colour == 1.0  # either assignment is right in one attribute of each


def test_relation_and_place() -> None:
    upside_down = [Thing("star", "red", 0.5, 0.7), Thing("square", "blue", 0.5, 0.3)]
    assert adherence.score(PAIR, upside_down).relation == 0.0
    beside = [Thing("star", "red", 0.2, 0.45), Thing("square", "blue", 0.8, 0.5)]
    assert adherence.score(PAIR, beside).relation == 0.0  # a little above, but mostly to the left
    left = parse("a red star on the left over plain white")
    at = {x: adherence.score(left, [Thing("star", "red", x)]).place for x in (0.25, 0.5, 0.75)}
    assert at == {0.25: 1.0, 0.5: 0.0, 0.75: 0.0}
    middle = parse("a red star in the middle")
    assert adherence.score(middle, [Thing("star", "red", 0.52, 0.47)]).place == 1.0
    assert adherence.score(left, [Thing("circle", "pink", 0.2)]).place == 0.0  # another object is there


def test_nothing_found_and_nothing_asked() -> None:
    got = adherence.score(PAIR, [])
    assert (got.object, got.shape, got.colour, got.texture, got.count, got.relation) == (0.0,) * 6
    assert all(math.isnan(v) for v in astuple(adherence.score(parse("a nice day"), RIGHT)))


def test_extra_objects_cost_the_count_alone() -> None:
    got = adherence.score(PAIR, [*RIGHT, Thing("circle", "green")])
    assert (got.object, got.count, got.relation) == (1.0, 0.0, 1.0)


def test_true_scenes_score_full_marks() -> None:
    """The geometry of the scores agrees with the world's own scenes and captions."""
    scenes = sample_scenes(seed=11, start=0, count=300, split="heldout")
    for scene in scenes:
        found = [Thing(t.shape, t.colour, t.x, t.y, t.texture) for t in scene.things]
        got = adherence.score(parse(caption(scene)), found)
        assert all(v == 1.0 for v in astuple(got) if not math.isnan(v)), (caption(scene), got)


things = st.builds(
    Thing,
    st.sampled_from(SHAPES),
    st.sampled_from(COLOURS),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(TEXTURES),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(things, max_size=5), st.integers(0, 50), st.randoms(use_true_random=False))
def test_scores_ignore_the_order_of_what_is_found(found: list[Thing], index: int, random) -> None:  # type: ignore[no-untyped-def]
    prompt = parse(caption(sample_scenes(seed=3, start=index, count=1)[0]))
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = adherence.score(prompt, found), adherence.score(prompt, shuffled)
    assert (one.object, one.count) == (other.object, other.count)
    assert one.shape + one.colour == pytest.approx(other.shape + other.colour)
    assert one.object <= min(one.shape, one.colour)
    used = [id(o) for o in adherence.match(prompt.things, found) if o is not None]
    assert len(used) == len(set(used))


def test_object_accuracy_weighs_things_not_pictures() -> None:
    single = parse("a green circle")
    assert object_accuracy([PAIR, single], [RIGHT, []]) == pytest.approx(2 / 3)


def test_adherence_metric_reads_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddit_eval.metrics.pictures.adherence.read", lambda pictures: [RIGHT, []])
    monkeypatch.setattr("ddit_eval.metrics.pictures.reader_lpips.load_reader", lambda: None)
    text = "a red star above a striped blue square"
    got = metrics.get("adherence")(noise(2, 3, 16, 16, seed=0), prompts=[text, text])
    assert got["object-accuracy"] == [1.0, 0.0]
    assert list(got) == list(metrics.get("adherence").describe())


def test_the_shipped_reader_finds_what_true_scenes_promise() -> None:
    scenes = sample_scenes(seed=5, start=0, count=24, split="heldout")
    texts = [caption(scene) for scene in scenes]
    got = metrics.get("adherence")(torch.from_numpy(render(scenes, 64)), prompts=texts)
    assert np.mean(got["object-accuracy"]) > 0.9
    # The same pictures under other captions: what is read depends on the picture.
    swapped = metrics.get("adherence")(torch.from_numpy(render(scenes, 64)), prompts=texts[1:] + texts[:1])
    assert np.mean(swapped["object-accuracy"]) < 0.3


def test_registry_describes_every_column() -> None:
    for name in metrics.names():
        for column, about in metrics.get(name).describe().items():
            assert about["source"], column
            assert about["direction"] in ("higher", "lower")
    assert set(metrics.missing()) == set(metrics.names())


def test_lpips_is_that_of_its_authors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their package and torchmetrics share the linear weights; the backbone here is any file, untrained."""
    theirs = pytest.importorskip("lpips")
    from torchvision.models import alexnet

    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "checkpoints" / lpips.BACKBONE)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    lpips.network.cache_clear()
    a, b = noise(3, 3, 64, 80, seed=0), noise(3, 3, 64, 80, seed=1)
    try:
        found = lpips.lpips_alex(a, b, chunk=2)
    finally:
        lpips.network.cache_clear()
    with torch.no_grad():
        golden = theirs.LPIPS(net="alex", version="0.1", verbose=False)(a, b, normalize=True).flatten()
    assert found.shape == (3,)
    assert float(golden.min()) > 0.01
    torch.testing.assert_close(found, golden, rtol=1e-6, atol=1e-7)


def test_lpips_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    a = noise(1, 3, 64, 64, seed=0)
    with pytest.raises(DditError, match=r"alexnet-owt-7be5be79\.pth"):
        metrics.get("lpips")(a, a)


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "divide bytes"),
        (torch.full((1, 3, 16, 16), 2.0), "span 2"),
        (torch.full((1, 3, 16, 16), float("nan")), "nan"),
        (torch.zeros(3, 16, 16), "N, 3, H, W"),
        (torch.zeros(0, 3, 16, 16), "nothing"),
        (torch.zeros(2, 3, 16, 16), "one to one"),
    ],
)
def test_bad_pictures_are_refused(pictures: torch.Tensor, says: str) -> None:
    with pytest.raises(DditError, match=says):
        metrics.get("psnr")(pictures, torch.zeros(1, 3, 16, 16))


def test_bad_calls_are_refused() -> None:
    a = torch.zeros(1, 3, 8, 8)
    for call, says in [
        (lambda: metrics.get("fid"), "fid"),
        (lambda: metrics.get("psnr")(a), "reference"),
        (lambda: metrics.get("ssim")(a, a), "window"),
        (lambda: metrics.register(metrics.get("psnr")), "psnr"),
    ]:
        with pytest.raises(DditError, match=says):
            call()
    assert np.isnan(object_accuracy([], []))
