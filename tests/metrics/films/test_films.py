from __future__ import annotations

import dataclasses
import math
import sys
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics import films as video
from ddit_eval.metrics.films import clip_network as clip_features
from ddit_eval.metrics.films import consistency as alike
from ddit_eval.metrics.films import dynamics, flow, metric, overall, quality, score, smoothness
from ddit_eval.metrics.films.flicker import temporal_flickering
from ddit_eval.metrics.films.weights import RAFT, Weights
from ddit_eval.world import Scene, render, sample_scenes

REAL = [
    "motion_smoothness",
    "dynamic_degree",
    "subject_consistency",
    "background_consistency",
    "aesthetic_quality",
    "imaging_quality",
    "overall_consistency",
]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def cloth(count: int, side: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, textured everywhere."""
    return flow._blurred(noise(count, 3, side, side, seed=seed), 1.5).mul(3).sub(1).clamp(0, 1)


def sliding(count: int, by: int = 1, side: int = 64, seed: int = 0) -> Tensor:
    """A window that moves to the left over a cloth, so that what is seen moves right by `by` px a frame."""
    wide = cloth(1, side + 64, seed)[0, :, :side]
    return torch.stack([wide[..., 60 - by * t : 60 - by * t + side] for t in range(count)])


def flat(levels: list[float], side: int = 16) -> Tensor:
    return torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, side, side).clone()


def scene(seed: int = 11) -> Scene:
    """A lone thing over a plain backdrop."""
    some = sample_scenes(seed=seed, start=0, count=200, split="heldout")
    return next(s for s in some if len(s.things) == 1 and s.background.kind == "plain")


def moved(one: Scene, dx: float, **changes: Any) -> Scene:
    """The scene with its thing `dx` px (of 64) further to the right."""
    thing = one.things[0]
    return dataclasses.replace(one, things=(dataclasses.replace(thing, x=thing.x + dx / 64, **changes),))


def filmed(scenes: list[Scene]) -> video.Video:
    return video.video(torch.from_numpy(np.asarray(render(scenes, 64))).float().clamp(0, 1))


def drive(step: float, count: int = 8) -> video.Video:
    """The thing of a scene moves right by `step` px a frame, through the middle."""
    start = dataclasses.replace(scene(), things=(dataclasses.replace(scene().things[0], x=0.5),))
    return filmed([moved(start, step * (t - (count - 1) / 2)) for t in range(count)])


# Temporal flickering.


@pytest.mark.parametrize(
    ("levels", "value"),
    [
        ([0.3] * 5, 1.0),
        ([0, 1, 0, 1], 0.0),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 0.9),  # a fade
        ([0.0, 0.5, 0.5], 0.75),  # the mean over pairs
    ],
)
def test_flickering_by_hand(levels: list[float], value: float) -> None:
    assert temporal_flickering(flat(levels)) == pytest.approx(value, abs=1e-7)


def test_flickering_agrees_with_vbench_on_bytes() -> None:
    frames = (noise(5, 3, 16, 24) * 255).byte()
    ints = frames.numpy().astype(np.int64)
    pairs = [np.abs(ints[t + 1] - ints[t]).mean() for t in range(4)]
    golden = (255.0 - np.mean(pairs)) / 255.0
    assert video.get("temporal_flickering")(video.video(frames)) == pytest.approx(golden, abs=1e-6)


def test_flickering_of_a_shift_is_the_mean_slope() -> None:
    frames = sliding(4)
    row = frames.double().numpy()
    slopes = [np.abs(row[0, :, :, k + 1] - row[0, :, :, k]).mean() for k in range(63)]
    assert temporal_flickering(frames[:2]) == pytest.approx(1 - np.mean(slopes), abs=5e-3)
    assert temporal_flickering(frames) < 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_flickering_is_the_same_backwards_and_mirrored(seed: int) -> None:
    frames = noise(4, 3, 6, 5, seed=seed)
    value = temporal_flickering(frames)
    assert temporal_flickering(frames.flip(0)) == pytest.approx(value)
    assert temporal_flickering(frames.flip(-1)) == pytest.approx(value)


# Flow.


@pytest.mark.parametrize("by", [1, 3])
def test_flow_of_a_shift(by: int) -> None:
    frames = sliding(2, by)
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion[0] - by).abs().max() < 0.1
    assert motion[1].abs().max() < 0.1


def test_flow_down_is_the_second_component() -> None:
    frames = sliding(2, 2).transpose(-1, -2)
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion[1] - 2).abs().max() < 0.1
    assert motion[0].abs().max() < 0.1


def test_flow_of_frames_of_odd_sides() -> None:
    frames = sliding(2, 2)[..., :45, :51]
    motion = flow.flow(frames[:1], frames[1:])[0, :, 10:-10, 10:-10]
    assert (motion - torch.tensor([2.0, 0.0]).view(2, 1, 1)).abs().max() < 0.1
    with pytest.raises(DditError, match="one shape"):
        flow.flow(frames[:1], frames)
    with pytest.raises(DditError, match="divide bytes"):
        flow.flow(frames[:1].byte(), frames[1:].byte())


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_flow_of_exchanged_and_of_mirrored_frames(seed: int) -> None:
    frames = sliding(2, 2, side=32, seed=seed)
    forth = flow.flow(frames[:1], frames[1:])
    torch.testing.assert_close(flow.flow(frames[1:], frames[:1]), -forth)
    mirrored = flow.flow(frames[:1].flip(-1), frames[1:].flip(-1)).flip(-1)
    torch.testing.assert_close(
        mirrored, forth * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), atol=1e-3, rtol=0
    )


def test_what_only_changes_its_light_does_not_move() -> None:
    picture = filmed([scene()] * 2).frames[:1]
    assert float(flow.flow(picture, picture).abs().max()) == 0.0
    assert float(flow.flow(picture, 0.9 * picture).abs().mean()) < 0.02
    grain = (picture + 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    assert float(flow.flow(picture, grain).abs().mean()) < 0.02


def test_the_middle_frame_of_a_moving_thing() -> None:
    film = drive(2.0, count=3).frames
    error = (flow.middle(film[:1], film[2:]) - film[1]).abs().mean()
    blend = ((film[:1] + film[2:]) / 2 - film[1]).abs().mean()
    assert error < 0.25 * blend


def test_flow_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = sliding(4, 2)
    together = flow.flow(frames[:-1], frames[1:])
    monkeypatch.setattr(flow, "PIXELS", 2 * 64 * 64)
    torch.testing.assert_close(flow.flow(frames[:-1], frames[1:]), together, atol=1e-4, rtol=1e-4)
    singly = torch.cat([flow.flow(frames[t : t + 1], frames[t + 1 : t + 2]) for t in range(3)])
    torch.testing.assert_close(together, singly, atol=1e-4, rtol=1e-4)


# Motion smoothness.


@pytest.mark.parametrize(
    ("levels", "value"),
    [
        ([0.4] * 4, 1.0),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 1.0),  # a fade is perfectly predictable
        ([0.5, 0.7, 0.5, 0.7, 0.5], 0.8),
        ([0.5, 0.7, 0.5, 0.1], 0.8),  # the last frame has none behind it
        ([0.0, 1.0, 0.0], 0.0),
    ],
)
def test_smoothness_by_hand(levels: list[float], value: float) -> None:
    film = video.video(flat(levels))
    assert smoothness.motion_smoothness(film.frames, lambda a, b: (a + b) / 2) == pytest.approx(
        value, abs=1e-6
    )
    assert video.get("motion_smoothness-classical")(film) == pytest.approx(value, abs=1e-5)


def test_smooth_motion_beats_shuffled_motion_and_frozen_frames_beat_both() -> None:
    measure = video.get("motion_smoothness-classical")
    film = drive(2.0)
    shuffled = video.video(film.frames[[3, 6, 0, 5, 1, 7, 2, 4]])
    frozen = video.video(film.frames[:1].repeat(8, 1, 1, 1))
    assert measure(frozen) == pytest.approx(1, abs=1e-6)
    assert 0.997 < measure(film) < measure(frozen)
    assert 1 - measure(shuffled) > 5 * (1 - measure(film))


def test_smoothness_needs_three_frames_and_a_fitting_interpolator() -> None:
    with pytest.raises(DditError, match="3 frames"):
        video.get("motion_smoothness-classical")(video.video(flat([0, 1])))
    with pytest.raises(DditError, match="are due"):
        smoothness.motion_smoothness(flat([0, 1, 0]), lambda a, b: a[..., :8])


# Dynamic degree.


def constant_flow(lengths: list[float]) -> dynamics.Flow:
    def give(first: Tensor, second: Tensor) -> Tensor:
        count, _, height, width = first.shape
        return torch.tensor(lengths[:count]).view(-1, 1, 1, 1).expand(-1, 2, height, width) / math.sqrt(2)

    return give


def test_speed_is_the_mean_of_the_fastest_twentieth() -> None:
    motion = torch.zeros(1, 2, 10, 20)
    motion[0, 0, 0, :10], motion[0, 1, 0, :10] = 3.0, 4.0  # 10 of 200 pixels, length 5
    motion[0, 0, 1, :2] = 20.0
    fastest = (2 * 20 + 8 * 5) / 10
    got = dynamics.speeds(torch.zeros(2, 3, 10, 20), lambda a, b: motion)
    assert got.tolist() == pytest.approx([fastest])


@pytest.mark.parametrize(
    ("frames", "fast", "dynamic"),
    [
        (16, 3, 0.0),
        (16, 4, 1.0),
        (8, 1, 0.0),
        (8, 2, 1.0),
        (3, 0, 0.0),
        (3, 1, 1.0),
        (10, 1, 0.0),
        (10, 2, 1.0),
        (11, 2, 0.0),
        (11, 3, 1.0),
        (2, 0, 0.0),
        (2, 1, 1.0),
    ],
)
def test_a_quarter_of_the_pairs_must_be_fast(frames: int, fast: int, dynamic: float) -> None:
    # The threshold at 256 px is 6 px; a pair just at it is not fast.
    lengths = [6.01] * fast + [5.99] * (frames - 1 - fast)
    film = torch.zeros(frames, 3, 256, 300)
    assert dynamics.dynamic_degree(film, constant_flow(lengths)) == dynamic


def test_frames_are_taken_at_eight_a_second() -> None:
    film = torch.arange(24.0).view(-1, 1, 1, 1)
    assert dynamics.thinned(film, 24).flatten().tolist() == [0, 3, 6, 9, 12, 15, 18, 21]
    assert (
        len(dynamics.thinned(film, 8))
        == len(dynamics.thinned(film, 4))
        == len(dynamics.thinned(film, None))
        == 24
    )
    assert len(dynamics.thinned(film, 12.1)) == 12  # round(1.51) is 2
    with pytest.raises(DditError, match="longer video"):
        dynamics.dynamic_degree(torch.zeros(3, 3, 8, 8), constant_flow([1.0]), fps=60)


def test_classical_dynamic_degree_sees_motion_and_nothing_else() -> None:
    measure = video.get("dynamic_degree-classical")
    assert measure(drive(3.0)) == 1.0  # the threshold at 64 px is 1.5 px
    assert measure(drive(0.4)) == 0.0
    still = drive(0.0)
    assert measure(still) == 0.0
    fading = video.video(still.frames * torch.linspace(1, 0.6, 8).view(-1, 1, 1, 1))
    assert measure(fading) == 0.0
    assert measure(video.Video(drive(0.4, count=32).frames, fps=48)) == 1.0  # every sixth frame, 2.4 px apart


def test_raft_is_given_what_it_was_trained_on() -> None:
    seen: dict[str, Any] = {}

    def network(a: Tensor, b: Tensor, num_flow_updates: int) -> list[Tensor]:
        seen.update(shape=tuple(a.shape), low=float(a.min()), high=float(a.max()), steps=num_flow_updates)
        return [torch.zeros(len(a), 2, *a.shape[-2:]), torch.ones(len(a), 2, *a.shape[-2:])]

    frames = noise(6, 3, 130, 136)
    got = dynamics.raft(frames[:-1], frames[1:], network)  # type: ignore[arg-type]
    assert seen == {
        "shape": (1, 3, 136, 136),
        "low": pytest.approx(-1, abs=1e-3),
        "high": pytest.approx(1, abs=1e-3),
        "steps": 20,
    }
    assert got.shape == (5, 2, 136, 136)
    assert bool((got == 1).all())  # the last refinement
    with pytest.raises(DditError, match="128 px"):
        dynamics.raft(noise(1, 3, 64, 64), noise(1, 3, 64, 64), network)  # type: ignore[arg-type]


def test_raft_runs_from_a_file_of_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    untrained = dataclasses.replace(RAFT, file="raft.pth", sha256=None)
    monkeypatch.setattr(dynamics, "RAFT", untrained)
    monkeypatch.setattr(dynamics, "RAFT_STEPS", 2)
    (tmp_path / "checkpoints").mkdir()
    network = raft_large(weights=None).eval()
    torch.save(network.state_dict(), untrained.path())
    dynamics._raft.cache_clear()
    frames = noise(2, 3, 128, 128)
    try:
        got = dynamics.raft(frames[:1], frames[1:])
    finally:
        dynamics._raft.cache_clear()
    with torch.no_grad():
        golden = network(2 * frames[:1] - 1, 2 * frames[1:] - 1, num_flow_updates=2)[-1]
    torch.testing.assert_close(got, golden)


# Consistency.


def test_consistency_by_hand() -> None:
    assert alike.consistency(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])) == pytest.approx(0.25)
    assert (
        alike.consistency(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 0.0
    )  # an opposite is no less than unlike
    half = alike.consistency(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    assert half == pytest.approx((2 * math.sqrt(0.5) + 1 + math.sqrt(0.5)) / 4)
    assert alike.consistency(noise(1, 7).repeat(5, 1)) == pytest.approx(1.0)
    with pytest.raises(DditError, match="2 frames"):
        alike.consistency(noise(1, 7))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 9))
def test_consistency_ignores_the_length_of_features(seed: int, factor: float) -> None:
    features = noise(5, 8, seed=seed) - 0.3
    assert alike.consistency(factor * features) == pytest.approx(alike.consistency(features))
    assert 0 <= alike.consistency(features) <= 1


def test_the_reader_follows_a_subject() -> None:
    measure = video.get("subject_consistency-reader")
    one = dataclasses.replace(scene(), things=(dataclasses.replace(scene().things[0], x=0.45),))
    other = "blue" if one.things[0].colour != "blue" else "red"
    still = measure(filmed([one] * 6))
    moving = measure(filmed([moved(one, t) for t in range(6)]))
    recoloured = measure(filmed([moved(one, t, **({"colour": other} if t % 2 else {})) for t in range(6)]))
    assert still == pytest.approx(1.0)
    assert moving > 0.98
    assert recoloured < moving - 0.05


def test_shuffling_lowers_consistency_of_a_slow_change() -> None:
    angles = torch.linspace(0, math.pi / 2, 8)
    turning = torch.stack([angles.cos(), angles.sin()], 1)
    assert alike.consistency(turning[[0, 6, 1, 7, 2, 5, 3, 4]]) < alike.consistency(turning) < 1


def test_dino_features_are_those_of_timm() -> None:
    from timm import create_model

    torch.manual_seed(0)
    network: Any = create_model(
        "vit_base_patch16_224.dino", pretrained=False, num_classes=0, embed_dim=48, depth=2, num_heads=3
    ).eval()
    torch.nn.init.normal_(network.pos_embed)
    frames = noise(3, 3, 224, 224)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        golden = network((frames - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
        torch.testing.assert_close(alike.dino_features(frames, network, chunk=2), golden)
        # Shorter side 64 to 224, the longer to 395: 24 whole patches, and 11 px that no patch sees.
        wide = noise(1, 3, 64, 113)
        assert alike.dino_features(wide, network).shape == (1, 48)
        network.pos_embed[:] = network.pos_embed[:, :1].clone()  # positions that are all alike stay so
        small = torch.nn.functional.interpolate(wide, (224, 395), mode="bilinear")[..., :384]
        small = (small - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        patches = network.patch_embed.proj(small).flatten(2).transpose(1, 2)
        tokens = torch.cat([network.cls_token, patches], 1) + network.pos_embed[:, :1]
        golden = network.norm(network.blocks(tokens))[:, 0]
        torch.testing.assert_close(alike.dino_features(wide, network), golden)
    with pytest.raises(DditError, match="not DINO"):
        alike.dino_network({"x": torch.zeros(1)})


def test_clip_frames_are_prepared_as_by_hand() -> None:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    square = noise(2, 3, 224, 224)
    torch.testing.assert_close(clip_features.prepared(square), (square - mean) / deviation)
    wide = noise(2, 3, 224, 300)
    torch.testing.assert_close(clip_features.prepared(wide), (wide[..., 38:262] - mean) / deviation)
    big = noise(1, 3, 448, 448)
    small = torch.nn.functional.interpolate(big, (224, 224), mode="bicubic", antialias=False)
    torch.testing.assert_close(clip_features.prepared(big), (small - mean) / deviation)


# Quality and overall consistency.


def test_quality_is_the_mean_opinion_on_its_scale() -> None:
    one = quality.quality_metric(
        "imaging_quality", lambda f: 100 * f.mean((1, 2, 3)), "brightness", "brightness"
    )
    assert one.name == "imaging_quality-brightness"
    assert one(video.video(flat([0.2, 0.4, 0.9]))) == pytest.approx(0.5)
    with pytest.raises(DditError, match="one opinion a frame"):
        quality.quality(flat([0, 1]), lambda f: f, 1.0)


def test_musiq_frames_are_at_most_512_px() -> None:
    assert quality.at_most(torch.zeros(1, 3, 512, 300)).shape == (1, 3, 512, 300)
    assert quality.at_most(torch.zeros(1, 3, 1000, 777)).shape == (1, 3, 512, 397)


class Encoder(torch.nn.Module):
    """A stand-in for CLIP in the tests: the mean and the spread of the prepared picture."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, pictures: Tensor) -> Tensor:
        return torch.stack([pictures.mean((1, 2, 3)), pictures.std((1, 2, 3))], 1) * self.one


def test_clip_metrics_read_their_weights_and_average_over_frames(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def openai(architecture: str, weights: Weights) -> Any:
        asked.append((architecture, weights.file))
        return SimpleNamespace(network=Encoder())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(clip_features, "openai", openai)
    (tmp_path / "checkpoints").mkdir()
    head = {"weight": torch.tensor([[4.0, 2.0]]), "bias": torch.tensor([3.0])}
    torch.save(head, tmp_path / "checkpoints" / "sa_0_4_vit_l_14_linear.pth")
    for file in ("ViT-L-14-openai.safetensors", "ViT-B-32-openai.safetensors"):
        (tmp_path / "checkpoints" / file).touch()
    film = video.video(noise(3, 3, 40, 30))
    with torch.no_grad():
        features = Encoder().encode_image(clip_features.prepared(film.frames))
    unit = features / features.norm(dim=1, keepdim=True)
    golden = float((unit @ torch.tensor([4.0, 2.0]) + 3).mean() / 10)
    assert video.get("aesthetic_quality")(film) == pytest.approx(golden, rel=1e-5)
    assert video.get("background_consistency")(film) == pytest.approx(alike.consistency(features), rel=1e-5)
    assert asked == [
        ("ViT-L-14", "ViT-L-14-openai.safetensors"),
        ("ViT-B-32", "ViT-B-32-openai.safetensors"),
    ]


def test_musiq_is_built_by_pyiqa_and_fed_frame_by_frame(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wiring alone: a module of the same shape stands for pyiqa, which is not a dependency."""
    shapes: list[tuple[int, ...]] = []

    class Network(torch.nn.Module):
        def __init__(self, pretrained: bool) -> None:
            super().__init__()
            assert not pretrained  # or it would download
            self.scale = torch.nn.Parameter(torch.zeros(1))

        def forward(self, picture: Tensor) -> Tensor:
            shapes.append(tuple(picture.shape))
            return (picture.mean() * self.scale).reshape(1, 1)

    for name in ("pyiqa", "pyiqa.archs", "pyiqa.archs.musiq_arch"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.MUSIQ = Network  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    here = dataclasses.replace(quality.MUSIQ, sha256=None)
    monkeypatch.setattr(quality, "MUSIQ", here)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"scale": torch.tensor([80.0])}, here.path())
    quality._musiq.cache_clear()
    metric_here = dataclasses.replace(video.get("imaging_quality"), weights=(here,))
    try:
        value = metric_here(video.video(flat([0.25, 0.75], side=1024)))
    finally:
        quality._musiq.cache_clear()
    assert value == pytest.approx(0.4)
    assert shapes == [(1, 3, 512, 512)] * 2


def test_the_aesthetic_head_is_linear_on_unit_features() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    got = quality.linear_opinion(features, torch.tensor([[5.0, 10.0]]), torch.tensor([1.0]))
    assert got.tolist() == pytest.approx([12.0, 11.0])


def test_overall_consistency_sees_eight_middle_frames() -> None:
    assert overall.middles(16) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert overall.middles(24) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert overall.middles(49) == [2, 8, 14, 20, 26, 32, 38, 45]
    assert overall.middles(3) == [0, 1, 2, 2, 2, 2, 2, 2]
    one = overall.overall_consistency_metric(lambda f, p: float(f[1, 0, 0, 0]) * len(p), "light", "light")
    film = video.video(flat([t / 20 for t in range(16)]))
    assert one(film, "abc") == pytest.approx(0.3)
    with pytest.raises(DditError, match="prompt"):
        one(film)


def test_middles_agree_with_numpy_linspace() -> None:
    for count in range(1, 60):
        parts = min(8, count)
        ends = np.linspace(0, count, parts + 1).astype(int)
        golden = [(a + b - 1) // 2 for a, b in pairwise(ends)]
        assert overall.middles(count)[:parts] == golden


# Scores.

# By hand: raw value, and where it lies between VBench's ends.
TABLE = {
    "subject_consistency": (0.1462, 0.0),
    "background_consistency": (1.0, 1.0),
    "temporal_flickering": (0.81465, 0.5),
    "motion_smoothness": (0.9975, 1.0),
    "aesthetic_quality": (0.6, 0.6),
    "imaging_quality": (0.7, 0.7),
    "dynamic_degree": (0.4, 0.4),
    "object_class": (0.9, 0.9),
    "multiple_objects": (0.5, 0.5),
    "human_action": (0.8, 0.8),
    "color": (0.7, 0.7),
    "spatial_relationship": (0.6, 0.6),
    "scene": (0.4111, 0.5),
    "appearance_style": (0.2855, 1.0),
    "temporal_style": (0.182, 0.5),
    "overall_consistency": (0.091, 0.25),
}


def test_scores_of_a_table_made_by_hand() -> None:
    raw = {name: value for name, (value, _) in TABLE.items()}
    for name, (value, place) in TABLE.items():
        assert score.normalised(name, value) == pytest.approx(place), name
    q = (0 + 1 + 0.5 + 1 + 0.6 + 0.7 + 0.5 * 0.4) / 6.5
    s = (0.9 + 0.5 + 0.8 + 0.7 + 0.6 + 0.5 + 1.0 + 0.5 + 0.25) / 9
    assert score.quality(raw) == pytest.approx(q)
    assert score.semantic(raw) == pytest.approx(s)
    assert score.total(raw) == pytest.approx((4 * q + s) / 5)
    assert (len(score.QUALITY), len(score.SEMANTIC)) == (7, 9)


def test_scores_are_not_clamped() -> None:
    assert score.normalised("motion_smoothness", 1.0) == pytest.approx((1 - 0.706) / 0.2915)
    assert score.normalised("temporal_flickering", 0.5) < 0


def test_no_total_from_a_subset_or_a_stand_in() -> None:
    raw = {name: value for name, (value, _) in TABLE.items()}
    for name in TABLE:
        rest = {k: v for k, v in raw.items() if k != name}
        with pytest.raises(DditError, match=f"Total.*{name}"):
            score.total(rest)
    stand_in = {("dynamic_degree-classical" if k == "dynamic_degree" else k): v for k, v in raw.items()}
    with pytest.raises(DditError, match=r"dynamic_degree is missing \(dynamic_degree-classical"):
        score.quality(stand_in)
    with pytest.raises(DditError, match="no dimension"):
        score.normalised("dynamic_degree-classical", 0.4)
    with pytest.raises(DditError, match="nan"):
        score.total({**raw, "scene": math.nan})


# The registry.


def test_every_metric_says_what_it_is() -> None:
    for name in video.names():
        about = video.get(name)
        assert about.name == name
        assert about.describe()["source"]
        assert about.describe()["direction"] == "higher"
        dimension, _, label = name.partition("-")
        if label:
            assert "stand-in" in str(about.note), name
            assert about.network != metric.NETWORKS[dimension]
        else:
            assert about.network == metric.NETWORKS[dimension]
    assert set(metric.NETWORKS) <= set(score.DIMENSIONS)


def test_without_weights_no_metric_bears_the_real_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    film = drive(1.0)
    for name in REAL:
        why = video.missing()[name]
        assert why is not None, name
        assert name in why
        with pytest.raises(DditError):
            video.get(name)(film, "a red star")
    assert video.missing()["temporal_flickering"] is None
    assert video.get("dynamic_degree").describe()["weights"] == {"raft_large_C_T_V1-22a6c225.pth": None}
    assert str(tmp_path / "checkpoints" / "raft_large_C_T_V1-22a6c225.pth") in str(
        video.missing()["dynamic_degree"]
    )


def test_a_network_given_by_hand_takes_the_name_only_if_it_is_the_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video, "_METRICS", dict(video._METRICS))
    blend = lambda a, b: (a + b) / 2  # noqa: E731
    with pytest.raises(DditError, match="AMT-S"):
        smoothness.motion_smoothness_metric(blend, "blend of the neighbours")
    video.register(smoothness.motion_smoothness_metric(blend, "blend of the neighbours", "blend"))
    assert video.get("motion_smoothness-blend")(video.video(flat([0, 0.5, 0]))) == pytest.approx(0.5)
    video.register(smoothness.motion_smoothness_metric(blend, "AMT-S"))  # the caller's word for it
    assert video.missing()["motion_smoothness"] is None
    with pytest.raises(DditError, match="already"):
        video.register(smoothness.motion_smoothness_metric(blend, "AMT-S"))
    with pytest.raises(DditError, match="unknown video metric"):
        video.get("fvd")


def test_values_of_videos_go_to_an_interval() -> None:
    clips = [video.video(flat([0.5, 0.5 + d])) for d in (0.1, 0.2, 0.3)]
    values = video.get("temporal_flickering").values(clips)
    assert values == pytest.approx([0.9, 0.8, 0.7])
    interval = stats.mean(values)
    assert interval.n == 3
    assert interval.low < 0.8 < interval.high
    with pytest.raises(DditError, match="one shape"):
        video.get("temporal_flickering").values([clips[0], video.video(flat([0, 1], side=8))])
    with pytest.raises(DditError, match="one prompt a video"):
        video.get("temporal_flickering").values(clips, ["a star"])


def test_weights_are_checked_and_read_as_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    one = Weights("one.pth", "1 kB", "here", "00000000", "do without")
    assert "one.pth (1 kB, here, SHA-256 00000000...) belongs at" in str(one.missing("m"))
    torch.save({"weight": torch.ones(2)}, one.path())
    assert "SHA-256" in str(one.missing("m"))
    with pytest.raises(DditError, match="copy it again"):
        one.load()
    right = dataclasses.replace(one, sha256=str(one.found())[:8])
    assert right.missing("m") is None
    assert right.load()["weight"].tolist() == [1, 1]
    code = dataclasses.replace(one, file="code.pth", sha256=None)
    torch.save({"weight": Path("x")}, code.path())
    with pytest.raises(DditError, match="does not load"):
        code.load()


# Reading.


def pixels(count: int = 4, side: int = 12) -> Tensor:
    """Frames of few colours, which a gif's palette holds exactly."""
    steps = torch.randint(0, 4, (count, 3, side, side), generator=torch.Generator().manual_seed(1))
    return (steps * 85).byte()


def images(frames: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]


def write_gif(path: Path, frames: Tensor, **options: Any) -> Path:
    first, *rest = images(frames)
    first.save(path, save_all=True, append_images=rest, loop=0, **options)
    return path


def test_a_gif_read_back_is_the_tensor(tmp_path: Path) -> None:
    frames = pixels()
    got = video.read(write_gif(tmp_path / "a.gif", frames, duration=125))
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps == pytest.approx(8.333, abs=0.01)  # gifs count in hundredths of a second: 0.12 s
    assert video.read(tmp_path / "a.gif", fps=5).fps == 5


def test_a_still_moment_in_a_gif_keeps_its_frames(tmp_path: Path) -> None:
    frames = pixels()[[0, 1, 1, 1, 2, 3]]
    path = write_gif(tmp_path / "a.gif", frames, duration=100)
    with Image.open(path) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]  # the writer merged the equal frames
    got = video.read(path)
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps == pytest.approx(10)


def test_frames_of_uneven_times_are_taken_as_they_are(tmp_path: Path) -> None:
    got = video.read(write_gif(tmp_path / "a.gif", pixels(3), duration=[100, 150, 250]))
    assert len(got.frames) == 3
    assert got.fps == pytest.approx(6)


def test_a_folder_read_back_is_the_tensor_in_the_order_of_numbers(tmp_path: Path) -> None:
    frames = (noise(11, 3, 6, 7) * 255).byte()
    for t, image in enumerate(images(frames)):
        image.save(tmp_path / f"frame{t}.png")  # frame10 comes after frame9, not after frame1
    (tmp_path / "notes.txt").write_text("no frame")
    got = video.read(tmp_path)
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps is None


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DditError, match="is not there"):
        video.read(tmp_path / "none.gif")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DditError, match="no frames"):
        video.read(empty)
    images(pixels(1))[0].save(empty / "0.png")
    with pytest.raises(DditError, match="at least 2 frames"):
        video.read(empty)
    images(pixels(1, side=8))[0].save(empty / "1.png")
    with pytest.raises(DditError, match="differ in size"):
        video.read(empty)
    (empty / "1.png").write_bytes(b"no picture")
    with pytest.raises(DditError, match=r"1\.png cannot be read"):
        video.read(empty)
    broken = tmp_path / "broken.gif"
    broken.write_bytes(b"GIF89a")
    with pytest.raises(DditError, match=r"broken\.gif cannot be read"):
        video.read(broken)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DditError, match=r"\.txt file is no video"):
        video.read(tmp_path / "a.txt")


def test_video_files_need_a_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ddit_eval.metrics.films import frames

    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(DditError, match="pip install av"):
        video.read(tmp_path / "a.mp4")


def write_mp4(path: Path, frames: Tensor, rate: int = 12, **options: str) -> Path:
    """Frames (T, 3, H, W) of bytes through PyAV's mpeg4 encoder."""
    import av

    with av.open(str(path), "w", options=options) as film:
        stream = film.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode())
    return path


def test_a_video_file_read_back_is_nearly_the_tensor(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    film = drive(2.0)
    frames = (film.frames * 255).round().byte()
    got = video.read(write_mp4(tmp_path / "a.mp4", frames))
    assert got.fps == pytest.approx(12)
    assert got.frames.shape == frames.shape
    assert float((got.frames - film.frames).abs().mean()) < 0.03
    # The figures of the file are those of the frames, but for what the codec takes.
    for name in ("temporal_flickering", "motion_smoothness-classical", "subject_consistency-reader"):
        assert video.get(name)(got) == pytest.approx(video.get(name)(film), abs=0.02), name
    assert video.get("dynamic_degree-classical")(got) == video.get("dynamic_degree-classical")(film)
    still = video.read(write_mp4(tmp_path / "still.mp4", frames[:1].repeat(6, 1, 1, 1)))
    assert video.get("temporal_flickering")(still) > 0.995 > video.get("temporal_flickering")(got)


def test_a_video_file_that_is_broken_is_named(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    frames = (noise(8, 3, 64, 64) * 255).byte()
    whole = write_mp4(tmp_path / "whole.mp4", frames).read_bytes()
    for name, data in (("empty", b""), ("text", b"no video at all"), ("half", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.mp4").write_bytes(data)
        with pytest.raises(DditError, match=rf"{name}\.mp4 cannot be read as a video"):
            video.read(tmp_path / f"{name}.mp4")
    # With its index in front, half a file still opens.
    front = write_mp4(tmp_path / "front.mp4", frames, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(front[: len(front) * 6 // 10])
    with pytest.raises(DditError, match=r"cut\.mp4 cannot be read as a video"):
        video.read(tmp_path / "cut.mp4")
    with pytest.raises(DditError, match=r"one\.mp4: a video needs at least 2 frames"):
        video.read(write_mp4(tmp_path / "one.mp4", frames[:1]))
    with av.open(str(tmp_path / "sound.mp4"), "w") as film:
        stream = film.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000
        film.mux(stream.encode(sound))
        film.mux(stream.encode())
    with pytest.raises(DditError, match=r"sound\.mp4 .*it holds no video"):
        video.read(tmp_path / "sound.mp4")
    with av.open(str(tmp_path / "none.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=12)
        stream.width = stream.height = 64
        film.start_encoding()
    with pytest.raises(DditError, match=r"none\.mp4"):
        video.read(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (torch.zeros(1, 3, 8, 8), "at least 2 frames"),
        (torch.zeros(0, 3, 8, 8), "nothing"),
        (torch.zeros(4, 8, 8, 3), "T, 3, H, W"),
        (torch.zeros(3, 8, 8), "T, 3, H, W"),
        (torch.full((2, 3, 8, 8), 200.0), "span 200"),
        (torch.full((2, 3, 8, 8), float("nan")), "nan"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int32), "int32"),
    ],
)
def test_bad_frames_are_refused(frames: Tensor, says: str) -> None:
    with pytest.raises(DditError, match=says):
        video.video(frames)


def test_bad_rates_are_refused() -> None:
    for fps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DditError, match="frames a second"):
            video.video(flat([0, 1]), fps)
