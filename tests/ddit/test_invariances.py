"""Values do not depend on batches, order, the number of processes or the device."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics import films as video
from ddit_eval.metrics import sets
from ddit_eval.metrics.accumulate import PictureMetric, RunErrors, VideoMetrics
from ddit_eval.metrics.metric import Column, Metric
from ddit_eval.metrics.trajectory import Trajectory
from ddit_eval.world import caption, render, sample_scenes

NAMES = ("psnr", "ssim", "reader-lpips", "adherence", "clip-world")
COUNT = 7
# The first identical to its reference (an infinite PSNR), others of growing noise.
Sample = tuple[Tensor, Tensor, list[str]]


@lru_cache(maxsize=1)
def sample() -> Sample:
    scenes = sample_scenes(seed=4, start=0, count=COUNT, split="heldout")
    theirs = torch.from_numpy(render(scenes, 64)).clamp(0, 1)
    grain = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    strength = torch.linspace(0, 0.3, COUNT).view(-1, 1, 1, 1)
    return (theirs + strength * grain).clamp(0, 1), theirs, [caption(scene) for scene in scenes]


@lru_cache(maxsize=len(NAMES))
def whole(name: str) -> dict[str, list[float]]:
    return metrics.get(name)(*sample())


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-5, nan_ok=True), name


def accumulated(name: str, rows: list[list[int]]) -> dict[str, list[float]]:
    ours, theirs, texts = sample()
    metric = PictureMetric(name)
    for part in rows:
        metric.update(ours[part], theirs[part], [texts[i] for i in part])
    return {column: values.samples for column, values in metric.compute().items()}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(COUNT)), cuts=st.sets(st.integers(1, COUNT - 1)))
def test_batches_and_order_do_not_matter(name: str, order: list[int], cuts: set[int]) -> None:
    ends = [0, *sorted(cuts), COUNT]
    parts = [order[a:b] for a, b in pairwise(ends)]
    expected = {column: [values[i] for i in order] for column, values in whole(name).items()}
    same(accumulated(name, parts), expected)


@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(COUNT)), chunk=st.integers(1, COUNT))
def test_features_do_not_depend_on_batches_and_order(order: list[int], chunk: int) -> None:
    pictures = sample()[0]
    for name in ("reader", "clip-world"):
        network = sets.network(name)
        expected = sets.features(network, pictures)
        found = sets.features(network, pictures[order], chunk=chunk)
        torch.testing.assert_close(found, expected[order], rtol=1e-4, atol=1e-5)


def test_the_mean_leaves_out_what_was_not_asked() -> None:
    def measure(pictures: Tensor, reference: Tensor | None, prompts: object) -> dict[str, list[float]]:
        return {"light": [float("nan") if v > 0.5 else v for v in pictures.mean((1, 2, 3)).tolist()]}

    light = Metric("light", (Column("light", "higher", 0, 1),), "pictures", measure, "a mean")
    metric = PictureMetric(light)
    for level in (0.1, 0.3, 0.9):
        metric.update(torch.full((1, 3, 4, 4), level))
    found = metric.compute()["light"]
    assert found.mean == pytest.approx(0.2)
    assert len(found.samples) == 3
    metric.reset()
    metric.update(torch.full((1, 3, 4, 4), 0.4))
    assert metric.compute()["light"].samples == pytest.approx([0.4])
    ours, theirs, _ = sample()
    psnr = PictureMetric("psnr")
    psnr.update(ours, theirs)
    assert psnr.compute()["psnr"].mean == float("inf")  # the first picture is its reference


VIDEOS = ("temporal_flickering", "motion_smoothness-classical", "background_consistency-clip-world")


@lru_cache(maxsize=1)
def films() -> list[Tensor]:
    """Clouds that drift and change their light a little, each its own way: (5, 3, 32, 32)."""
    noise = torch.rand(4, 3, 8, 16, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(noise, (32, 64), mode="bilinear")
    return [
        torch.stack([w[..., (i + 1) * t : (i + 1) * t + 32] * (1 - 0.02 * i * t) for t in range(5)])
        for i, w in enumerate(wide)
    ]


@pytest.mark.parametrize("name", VIDEOS)
@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_videos_does_not_matter(name: str, order: list[int]) -> None:
    whole = [video.get(name)(video.video(film)) for film in films()]
    metric = VideoMetrics(name)
    for i in order:
        metric.update(films()[i])
    found = metric.compute()[name]
    assert found.samples == pytest.approx([whole[i] for i in order], abs=1e-6)
    assert found.mean == pytest.approx(sum(whole) / 4, abs=1e-6)
    assert len(set(whole)) == 4  # the films differ, or order would be nothing


def test_videos_of_two_shapes_are_no_set() -> None:
    metric = VideoMetrics("temporal_flickering")
    with pytest.raises(DditError, match="call update before"):
        metric.compute()
    metric.update(films()[0])
    with pytest.raises(DditError, match="cut them alike"):
        metric.update(films()[0][:3])
    metric.reset()
    metric.update(films()[0][:3])
    assert len(metric.compute()["temporal_flickering"].samples) == 1


@settings(max_examples=5, deadline=None)
@given(cut=st.integers(1, 4))
def test_errors_of_runs_do_not_depend_on_batches(cut: int) -> None:
    theirs = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(2))
    ours = theirs * (1 + 0.1 * torch.arange(5).view(1, 5, 1, 1))
    times, sigmas = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 0.7, 0.3, 0.0])
    metric = RunErrors(3)
    for part in (slice(0, cut), slice(cut, 5)):
        metric.update(*(Trajectory(x[:, part], times, sigmas) for x in (ours, theirs)))
    found = metric.compute()
    assert list(found)[::3] == ["latent-error 01", "velocity-error 02"]
    for name, values in found.items():  # a run that is 1 + e times the base's is off by e everywhere
        assert values.samples == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-5), name
    with pytest.raises(DditError, match="equal steps"):
        RunErrors(4).update(*(Trajectory(x, times, sigmas) for x in (ours, theirs)))


def one_of_two(rank: int, folder: str) -> None:
    """A process with its share (4 and 3 pictures); both write what they compute together."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ours, theirs, texts = sample()
    rows = range(4) if rank == 0 else range(4, COUNT)
    part = slice(rows.start, rows.stop)
    out: dict[str, object] = {}
    for name in NAMES:
        metric = PictureMetric(name)
        metric.update(ours[part], theirs[part], texts[part])
        out[name] = {column: values.samples for column, values in metric.compute().items()}
    together = sets.SetMetric(
        sets.features(sets.network("reader"), theirs), "reader", ["frechet", "kid", "cmmd"]
    )
    together.update(ours[part])
    out["sets"] = together.compute()
    film = VideoMetrics("motion_smoothness-classical")
    for one in films()[2 * rank : 2 * rank + 2]:
        film.update(one)
    out["video"] = film.compute()["motion_smoothness-classical"].samples
    torch.save(out, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    ours, theirs, _ = sample()
    alone = sets.SetMetric(
        sets.features(sets.network("reader"), theirs), "reader", ["frechet", "kid", "cmmd"]
    )
    alone.update(ours)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in NAMES:
            same(found[name], whole(name))
        smooth = video.get("motion_smoothness-classical")
        assert found["video"] == pytest.approx([smooth(video.video(f)) for f in films()], abs=1e-6)
        assert found["sets"] == pytest.approx(alone.compute(), rel=1e-4, abs=1e-6)


DEVICES = [
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS here")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_does_not_matter(device: str) -> None:
    ours, theirs, texts = sample()
    for name in NAMES:
        same(metrics.get(name)(ours.to(device), theirs.to(device), texts), whole(name))
    found = sets.features(sets.network("clip-world"), ours, device=device)
    torch.testing.assert_close(found, sets.features(sets.network("clip-world"), ours), rtol=1e-3, atol=1e-4)
