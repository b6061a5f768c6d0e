from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.functional.multimodal import clip_score as torchmetrics_clip_score

from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures import clip_network as clip
from ddit_eval.metrics.pictures import clip_score
from ddit_eval.metrics.pictures.adherence import score
from ddit_eval.metrics.pictures.clip_network import ClipSource, load_clip
from ddit_eval.metrics.pictures.clip_score import clip_metric
from ddit_eval.system.read import file_digest
from ddit_eval.world import caption, parse, render, sample_scenes
from experiments.recipes import clip as mini

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SHIPPED = Path(clip.__file__).parents[2] / "weights" / "clip"
TEXTS = ["a red star", "a blue square over plain white", "a photo of a cat"]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP as a folder that open_clip loads."""
    out = tmp_path_factory.mktemp("tiny-clip")
    torch.manual_seed(0)
    network = open_clip.model.CLIP(**TINY)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, out / clip.WEIGHTS)
    preparation = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    (out / clip.CONFIG).write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": preparation}))
    return out


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same architecture, known to open_clip by name, with one training in its table."""
    out = tmp_path_factory.mktemp("architectures") / "Tiny-16.json"
    out.write_text(json.dumps(TINY))
    open_clip.add_model_config(out)
    training = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "resize_mode": "squash", "quick_gelu": True}
    open_clip.pretrained._PRETRAINED["Tiny-16"] = {"ours": training}
    return "Tiny-16"


# The score.


def test_equals_open_clip_by_hand(folder: Path) -> None:
    pictures = noise(3, 3, 48, 40, seed=1)
    network, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    levels = np.rint(pictures.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    with torch.no_grad():
        a = network.eval().encode_image(torch.stack([prepare(Image.fromarray(p)) for p in levels]))
        b = network.encode_text(tokens)
    by_hand = 100 * torch.cosine_similarity(a, b)
    values = clip_metric(folder)(pictures, prompts=TEXTS)
    assert list(values) == ["clip"]
    assert values["clip"] == pytest.approx(by_hand.tolist(), abs=1e-4)
    assert np.ptp(values["clip"]) > 0.1  # the values are those of the pictures, not one constant


class AsTransformers(nn.Module):
    """Our towers behind the interface that torchmetrics expects, with transformers' names."""

    def __init__(self, ours: clip.Clip) -> None:
        super().__init__()
        self.ours, self.config = ours, SimpleNamespace()

    def process(self, images: Any = None, text: Any = None, **_: Any) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": torch.stack([self.ours.prepare(clip.image_of(p)) for p in images])}
        ids = self.ours.tokenize(text)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.ours.network.encode_image(pixels)

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.ours.network.encode_text(ids)


def test_equals_torchmetrics(folder: Path) -> None:
    ours = load_clip(ClipSource(folder))
    model = AsTransformers(ours)
    pair: Any = (model, model.process)
    pictures = noise(3, 3, 32, 32, seed=2)
    values = clip_score.clip_score(ours, pictures, TEXTS)
    for picture, text, value in zip(pictures, TEXTS, values.tolist(), strict=True):
        golden = torchmetrics_clip_score(picture, text, lambda: pair)
        assert float(golden) == pytest.approx(max(0.0, value), abs=1e-4)
    assert values.max() > 0  # or the line above would hold for nothing


def test_arithmetic_by_hand() -> None:
    one = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]])
    other = torch.tensor([[4.0, 3.0], [0.0, 9.0], [-5.0, 0.0]])
    assert clip.cosines(one, other).tolist() == pytest.approx([0.96, 0.0, -1.0])


def test_values_do_not_depend_on_the_batch(folder: Path) -> None:
    ours = load_clip(ClipSource(folder))
    pictures = noise(5, 3, 40, 32, seed=3)
    whole = clip.picture_features(ours, pictures)
    torch.testing.assert_close(clip.picture_features(ours, pictures, chunk=2), whole, atol=1e-5, rtol=1e-5)
    texts = [*TEXTS, *TEXTS]
    torch.testing.assert_close(
        clip.caption_features(ours, texts, chunk=4), clip.caption_features(ours, TEXTS).repeat(2, 1)
    )


def test_pictures_are_rounded_to_levels() -> None:
    picture = torch.full((3, 2, 2), 0.999)  # 254.7: truncated it would be 254
    assert np.asarray(clip.image_of(picture)).tolist() == [[[255] * 3] * 2] * 2


def test_metric_says_which_network_and_which_scale(folder: Path) -> None:
    metric = clip_metric(folder, name="clip-tiny")
    about = metric.describe()["clip-tiny"]
    assert about["range"] == [-100.0, 100.0]
    assert about["direction"] == "higher"
    assert about["source"].startswith("100 x cosine")
    digest = file_digest(folder / clip.WEIGHTS)
    assert about["network"] == f"{folder.name} ({clip.WEIGHTS}, SHA-256 {digest[:12]})"
    with pytest.raises(DditError, match="one prompt a picture: 1 for 2"):
        metric(noise(2, 3, 32, 32, seed=0), prompts=["a red star"])


def test_long_prompts_are_cut_aloud(folder: Path, tmp_path: Path) -> None:
    ours = load_clip(ClipSource(folder))  # 12 tokens: begin, 10 words, end
    fits = "a a a a a a a a a a"
    with pytest.warns(UserWarning, match=r"1 of 2 prompts .* 12 tokens"):
        clip.caption_features(ours, [fits, fits + " a"])
    assert clip._too_long(ours, [fits, "a red star"]) == []


# Which network.


def test_a_file_with_its_architecture_is_the_same_network(folder: Path, architecture: str) -> None:
    pictures = noise(2, 3, 32, 32, seed=4)
    plain = load_clip(ClipSource(folder / clip.WEIGHTS, architecture))
    for key, value in load_clip(ClipSource(folder)).network.state_dict().items():
        torch.testing.assert_close(plain.network.state_dict()[key], value)
    # The named training brings its preparation and its GELU, which a bare file cannot.
    trained = load_clip(ClipSource(folder / clip.WEIGHTS, f"{architecture}/ours"))
    network = open_clip.model.CLIP(**TINY, quick_gelu=True)
    network.load_state_dict(plain.network.state_dict())
    levels = (pictures * 255).round() / 255
    prepared = (levels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
    with torch.no_grad():
        golden = network.eval().encode_image(prepared)
    torch.testing.assert_close(clip.picture_features(trained, pictures), golden, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(clip.picture_features(plain, pictures), golden, atol=1e-3)


def test_a_network_of_the_hub_bears_its_own_name(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--laion--CLIP-ViT-B-32" / "snapshots" / "1a25a446"
    snapshot.mkdir(parents=True)
    assert ClipSource(snapshot).name == "laion/CLIP-ViT-B-32"
    assert ClipSource(tmp_path).name == tmp_path.name
    assert ClipSource(tmp_path / "x.safetensors", "ViT-B-32/openai").name == "ViT-B-32/openai"


def test_openais_training_brings_its_gelu() -> None:
    name, training = clip._architecture(ClipSource(Path("x"), "ViT-B-32/openai"))
    assert (name, training["quick_gelu"]) == ("ViT-B-32", True)


def test_what_is_missing_is_named(folder: Path, architecture: str, tmp_path: Path) -> None:
    weights = folder / clip.WEIGHTS
    (bare := tmp_path / "bare").mkdir()
    (config_only := tmp_path / "config-only").mkdir()
    (config_only / clip.CONFIG).write_text((folder / clip.CONFIG).read_text())
    (other := tmp_path / "other").mkdir()
    (other / clip.CONFIG).write_text("{}")
    (other / clip.WEIGHTS).write_bytes(b"")
    (hub := tmp_path / "hub").mkdir()
    text = {**TINY["text_cfg"], "hf_model_name": "someone/some-text-tower"}
    (hub / clip.CONFIG).write_text(json.dumps({"model_cfg": {**TINY, "text_cfg": text}}))
    (hub / clip.WEIGHTS).write_bytes(b"")
    for source, says in [
        (ClipSource(bare), "has no open_clip_config.json"),
        (ClipSource(config_only), r"belong at .*config-only.open_clip_model\.safetensors .*clip-world"),
        (ClipSource(tmp_path / "absent.safetensors", architecture), r"absent\.safetensors and are not there"),
        (ClipSource(weights), "architecture is not named"),
        (ClipSource(weights, "ViT-Z-99/openai"), "no architecture 'ViT-Z-99'"),
        (ClipSource(weights, f"{architecture}/theirs"), "no training 'theirs' of Tiny-16; there are ours"),
        (ClipSource(weights, "xlm-roberta-base-ViT-B-32"), "from the hub"),
        (ClipSource(hub), "from the hub"),
        (ClipSource(other), "has no model_cfg"),
        (ClipSource(folder, architecture), "leave out 'Tiny-16'"),
        (ClipSource(weights, architecture, "0" * 64), "has SHA-256 .* and not 000000000000"),
    ]:
        why = clip.missing(source)
        assert why is not None, source
        assert len(why) < 400
        with pytest.raises(DditError, match=says):
            load_clip(source)


def test_a_wrong_file_says_so(folder: Path, architecture: str, tmp_path: Path) -> None:
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "half.safetensors")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    for name, says in (("half", "and its weights do not fit"), ("text", "does not load as safetensors")):
        with pytest.raises(DditError, match=f"{name}.safetensors {says}"):
            load_clip(ClipSource(tmp_path / f"{name}.safetensors", architecture))


class Payload:
    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.mark),)

    mark = ""


def test_pickled_code_is_not_run(architecture: str, tmp_path: Path) -> None:
    Payload.mark = str(tmp_path / "ran")
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(DditError, match=r"evil\.pt does not load"):
        load_clip(ClipSource(tmp_path / "evil.pt", architecture))
    assert not Path(Payload.mark).exists()
    pickle.loads(pickle.dumps(Payload()))  # the payload does what it says when it is let
    assert Path(Payload.mark).exists()


def test_the_chosen_network_comes_from_the_environment(folder: Path) -> None:
    unnamed = clip_score.chosen({})
    with pytest.raises(DditError, match="DDIT_CLIP_CHECKPOINT"):
        unnamed(noise(1, 3, 32, 32, seed=0), prompts=["a red star"])
    named = clip_score.chosen({"DDIT_CLIP_CHECKPOINT": str(folder)})
    pictures = noise(1, 3, 32, 32, seed=0)
    assert named(pictures, prompts=TEXTS[:1]) == clip_metric(folder)(pictures, prompts=TEXTS[:1])
    assert (named.name, clip_score.WORLD.name, clip_score.CHOSEN.name) == ("clip", "clip-world", "clip")


# The world's CLIP.


@pytest.mark.parametrize("name", mini.SWAPS)
def test_a_swap_changes_the_picture_and_the_promise(name: str) -> None:
    rng = np.random.default_rng(0)
    swapped = 0
    for scene in sample_scenes(seed=5, start=0, count=60):
        twin = mini.SWAPS[name](scene, rng)
        if twin is None:
            continue
        swapped += 1
        assert caption(twin) != caption(scene)
        assert len(twin.things) == len(scene.things)
        one, other = render([scene, twin], 32)
        assert np.abs(one - other).max() > 0.05
        # What is painted is what is promised: the twin's own things satisfy its caption.
        got = score(parse(caption(twin)), twin.things)  # type: ignore[arg-type]
        for part in ("object", "count", "relation", "place"):
            assert getattr(got, part) == 1.0 or math.isnan(getattr(got, part)), (caption(twin), got)
    assert swapped > 15


def test_single_swaps_touch_one_attribute() -> None:
    rng = np.random.default_rng(1)
    for scene in sample_scenes(seed=6, start=0, count=20):
        for name in ("shape", "colour", "texture"):
            twin = mini.SWAPS[name](scene, rng)
            assert twin is not None
            differing = [(a, b) for a, b in zip(scene.things, twin.things, strict=True) if a != b]
            assert len(differing) == 1
            a, b = differing[0]
            assert replace(a, **{name: getattr(b, name)}) == b


def test_batches_hold_groups_whose_captions_differ() -> None:
    scenes, captions = mini.batch(seed=3, step=0, groups=4, group=5)
    assert len(scenes) == len(captions) == 20
    for i in range(0, 20, 5):
        assert len(set(captions[i : i + 5])) == 5
    again, other = mini.batch(3, 0, 4, 5), mini.batch(3, 1, 4, 5)
    assert again == (scenes, captions)
    assert other[1] != captions
    for scene, text in zip(scenes, captions, strict=True):
        assert parse(text).things == parse(caption(scene)).things


def test_the_training_script_writes_what_the_metric_loads(tmp_path: Path) -> None:
    mini.main(tmp_path, minutes=1e-3, groups=2, group=3, lr=1e-3, looks=1.0, scenes=64)
    log = json.loads((tmp_path / "training.json").read_text())
    assert log["log"][-1]["step"] >= 1
    assert log["sha256"] == file_digest(tmp_path / clip.WEIGHTS)
    assert set(log["heldout"]["pairs"]) == set(mini.SWAPS)
    metric = clip_metric(tmp_path, name="clip-world")
    scenes = sample_scenes(seed=4, start=0, count=2)
    pictures = torch.from_numpy(render(scenes, 64))
    values = metric(pictures, prompts=[caption(s) for s in scenes])["clip-world"]
    assert all(-100 <= v <= 100 for v in values)
    assert (tmp_path / clip.WEIGHTS).stat().st_size < 10e6
    # A word of the world is a token; other words are spelt, and change the value.
    ours = load_clip(ClipSource(tmp_path))
    assert (ours.tokenize(["a red star"])[0] != ours.tokenize([""])[0]).sum() == 3
    longest = max((caption(s) for s in sample_scenes(1, 0, 400)), key=lambda text: len(text.split()))
    assert clip._too_long(ours, [longest]) == []
    # One byte of the weights is enough to be refused.
    data = bytearray((tmp_path / clip.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / clip.WEIGHTS).write_bytes(data)
    with pytest.raises(DditError, match="damaged or another file"):
        load_clip(ClipSource(tmp_path))


@pytest.mark.skipif(not (SHIPPED / clip.WEIGHTS).is_file(), reason="the world's CLIP is not trained yet")
def test_the_shipped_clip_tells_scenes_apart() -> None:
    assert clip_score.WORLD.missing() is None
    found = mini.measure(load_clip(ClipSource(SHIPPED)), count=128, seed=9)
    assert found["recall@1 among 64, picture to caption"] > 0.8
    assert found["recall@1 among 64, caption to picture"] > 0.8
    assert found["recall@1 among 6, one attribute swapped"] > 0.5
    scenes = sample_scenes(seed=10, start=0, count=32, split="heldout")
    pictures, texts = torch.from_numpy(render(scenes, 64)), [caption(s) for s in scenes]
    own = clip_score.WORLD(pictures, prompts=texts)["clip-world"]
    swapped = clip_score.WORLD(pictures, prompts=texts[1:] + texts[:1])["clip-world"]
    assert np.mean(np.array(own) > np.array(swapped)) > 0.9
