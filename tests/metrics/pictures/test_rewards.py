"""The learned judges: what they say when something is missing, and that local weights are all they use."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.pictures import clip_network as clip
from ddit_eval.metrics.pictures import hpsv2, image_reward, rewards
from ddit_eval.metrics.pictures.clip_score import clip_score
from ddit_eval.system.read import file_digest

TEXTS = ["a red star", "a blue square"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "image-reward",
            ["package image-reward", "ImageReward.pt", "1.8 GB", "DDIT_IMAGE_REWARD", "hash", "`clip-world`"],
        ),
        ("hpsv2", ["HPS_v2.1_compressed.pt", "2 GB", "DDIT_HPSV2", "hash", "`clip-world`"]),
        ("aesthetic", ["ViT-L-14-openai.safetensors", "1.7 GB", "checkpoints", "hash", "leave"]),
        ("lpips", ["alexnet-owt-7be5be79.pth", "233 MB", "checkpoints", "SHA-256", "`reader-lpips`"]),
        ("clip", ["DDIT_CLIP_CHECKPOINT", "0.6 GB", "hash", "`clip-world`"]),
    ],
)
def test_one_message_says_all(
    name: str, parts: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    why = metrics.missing()[name]
    assert why is not None
    assert why.startswith(f"{name}: ")
    assert [part for part in parts if part not in why] == []
    with pytest.raises(DditError):
        metrics.get(name)(noise(2, 3, 64, 64), noise(2, 3, 64, 64), TEXTS)


def test_a_wrong_backbone_of_lpips_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(b"other")
    assert "and not 7be5be79" in str(metrics.get("lpips").missing())


class Judge(nn.Module):
    """In place of the package's model: the mean of the picture times a weight, plus the prompt's length."""

    def __init__(self, med_config: str, device: str) -> None:
        super().__init__()
        from huggingface_hub import constants

        assert constants.HF_HUB_OFFLINE  # or its tokenizer would be fetched
        assert device == "cpu"
        self.scale = nn.Parameter(torch.zeros(1))

    def score(self, prompt: str, path: str) -> float:
        with Image.open(path) as picture:
            level = sum(picture.convert("L").tobytes()) / (255 * picture.width * picture.height)
        return float(self.scale) * level + len(prompt)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package of that name and a folder of weights."""
    for name in ("ImageReward", "ImageReward.ImageReward"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.ImageReward = Judge  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, file: str(tmp_path))
    torch.save({"scale": torch.tensor([2.0])}, tmp_path / image_reward.WEIGHTS)
    (tmp_path / image_reward.CONFIG).write_text("{}")
    image_reward._load.cache_clear()
    return tmp_path


def test_image_reward_through_its_package(package: Path) -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    metric = image_reward.chosen({"DDIT_IMAGE_REWARD": str(package)})
    pictures = torch.stack([torch.full((3, 8, 8), level / 255) for level in (51, 204)])
    assert metric(pictures, prompts=TEXTS)["image-reward"] == pytest.approx([10.4, 14.6])
    assert before == constants.HF_HUB_OFFLINE
    about = metric.describe()["image-reward"]
    assert file_digest(package / image_reward.WEIGHTS)[:12] in about["network"]
    assert about["range"] == ["-inf", "inf"]
    json.dumps(about, allow_nan=False)
    (package / image_reward.CONFIG).unlink()
    assert str(metric.missing()).count("Missing here: ") == 1
    assert f"Missing here: {package / image_reward.CONFIG}." in str(metric.missing())


def test_other_weights_are_no_image_reward(package: Path) -> None:
    metric = image_reward.chosen({"DDIT_IMAGE_REWARD": str(package)})
    for state in ({"other": torch.ones(1)}, {"scale": Path("code")}):
        torch.save(state, package / image_reward.WEIGHTS)
        with pytest.raises(DditError, match="does not load as ImageReward"):
            metric(noise(1, 3, 8, 8), prompts=TEXTS[:1])


def test_hpsv2_is_the_cosine_of_its_checkpoint(tmp_path: Path) -> None:
    tiny: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "Tiny-HPS.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "Tiny-HPS.json")
    torch.manual_seed(0)
    network = open_clip.model.CLIP(**tiny).eval()
    path = tmp_path / "HPS_v2.1_compressed.pt"
    torch.save({"state_dict": network.state_dict()}, path)
    metric = hpsv2.chosen({"DDIT_HPSV2": str(path)}, "Tiny-HPS")
    pictures = noise(2, 3, 32, 32)
    values = metric(pictures, prompts=TEXTS)["hpsv2"]
    plain = clip_score(clip.load_clip(clip.ClipSource(path, "Tiny-HPS")), pictures, TEXTS)
    assert values == pytest.approx((plain / 100).tolist(), abs=1e-6)
    assert metric.describe()["hpsv2"]["range"] == [-1.0, 1.0]
    # A wide picture is fitted whole and padded, not cut.
    wide = torch.zeros(1, 3, 32, 64)
    wide[..., :8] = 1.0  # all of it outside of the middle square
    fitted = metric(wide, prompts=TEXTS[:1])["hpsv2"]
    assert fitted != pytest.approx(metric(torch.zeros(1, 3, 32, 64), prompts=TEXTS[:1])["hpsv2"], abs=1e-6)
    assert str(hpsv2.chosen({"DDIT_HPSV2": "none.pt"}).missing()).count("none.pt") == 1


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_aesthetic_is_the_head_on_unit_features(
    suffix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ddit_eval.metrics.pictures import clip_frames as frames_clip

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def encode_image(self, pictures: Tensor) -> Tensor:
            return torch.stack([pictures.mean((1, 2, 3)), pictures.std((1, 2, 3))], 1) * self.one

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(frames_clip, "openai", lambda a, w: SimpleNamespace(network=Encoder()))
    place = tmp_path / "checkpoints"
    place.mkdir()
    (place / "ViT-L-14-openai.safetensors").touch()
    head = {"weight": torch.tensor([[4.0, 2.0]]), "bias": torch.tensor([3.0])}
    path = place / f"sa_0_4_vit_l_14_linear{suffix}"
    save_file(head, path) if suffix == ".safetensors" else torch.save(head, path)
    pictures = noise(3, 3, 40, 30)
    with torch.no_grad():
        features = Encoder().encode_image(frames_clip.prepared(pictures))
    unit = features / features.norm(dim=1, keepdim=True)
    by_hand = unit @ torch.tensor([4.0, 2.0]) + 3
    got = metrics.get("aesthetic")(pictures)["aesthetic"]  # neither reference nor prompts
    assert got == pytest.approx(by_hand.tolist(), rel=1e-5)


def test_nothing_missing_is_no_message() -> None:
    assert rewards.lacking("x", "needs y", [], "z") is None
    assert rewards.with_hash("x", None) == "x"
