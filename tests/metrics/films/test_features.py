"""Consistency, quality and agreement with the prompt, in the features of networks."""

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
from torch import Tensor

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.checkpoints import Weights
from ddit_eval.metrics.films import consistency as alike
from ddit_eval.metrics.films import overall, quality
from ddit_eval.metrics.films.frames import film_of
from ddit_eval.metrics.pictures import aesthetic
from ddit_eval.metrics.pictures import clip_frames as clip_features
from tests.support.films import filmed, flat, moved, noise, scene

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
    measure = metrics.get("subject_consistency-reader").value
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
    assert one.value(film_of(flat([0.2, 0.4, 0.9]))) == pytest.approx(0.5)
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
    film = film_of(noise(3, 3, 40, 30))
    with torch.no_grad():
        features = Encoder().encode_image(clip_features.prepared(film.frames))
    unit = features / features.norm(dim=1, keepdim=True)
    golden = float((unit @ torch.tensor([4.0, 2.0]) + 3).mean() / 10)
    assert metrics.get("aesthetic_quality").value(film) == pytest.approx(golden, rel=1e-5)
    assert metrics.get("background_consistency").value(film) == pytest.approx(
        alike.consistency(features), rel=1e-5
    )
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
    metric_here = dataclasses.replace(metrics.get("imaging_quality"), checkpoints=(here,))
    try:
        value = metric_here.value(film_of(flat([0.25, 0.75], side=1024)))
    finally:
        quality._musiq.cache_clear()
    assert value == pytest.approx(0.4)
    assert shapes == [(1, 3, 512, 512)] * 2


def test_the_aesthetic_head_is_linear_on_unit_features() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    got = aesthetic.linear_opinion(features, torch.tensor([[5.0, 10.0]]), torch.tensor([1.0]))
    assert got.tolist() == pytest.approx([12.0, 11.0])


def test_overall_consistency_sees_eight_middle_frames() -> None:
    assert overall.middles(16) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert overall.middles(24) == [1, 4, 7, 10, 13, 16, 19, 22]
    assert overall.middles(49) == [2, 8, 14, 20, 26, 32, 38, 45]
    assert overall.middles(3) == [0, 1, 2, 2, 2, 2, 2, 2]
    one = overall.overall_consistency_metric(lambda f, p: float(f[1, 0, 0, 0]) * len(p), "light", "light")
    film = film_of(flat([t / 20 for t in range(16)]))
    assert one.value(film, "abc") == pytest.approx(0.3)
    with pytest.raises(DditError, match="prompt"):
        one.value(film)


def test_middles_agree_with_numpy_linspace() -> None:
    for count in range(1, 60):
        parts = min(8, count)
        ends = np.linspace(0, count, parts + 1).astype(int)
        golden = [(a + b - 1) // 2 for a, b in pairwise(ends)]
        assert overall.middles(count)[:parts] == golden
