"""Feature networks: weights, presets, missing files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.metrics import sets
from ddit_eval.metrics.sets import comparison, networks
from ddit_eval.metrics.sets.feature_network import to_bytes
from ddit_eval.system.read import file_digest
from tests.support.sets import means, noise

# Networks.


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    why = sets.network("inception").missing()
    assert why is not None
    for part in ("weights-inception-2015-12-05-6726825d.pth", "91 MiB", str(tmp_path), "`reader`"):
        assert part in why
    pictures = sets.tensor_set(noise(4, 3, 8, 8))
    with pytest.raises(DditError, match="6726825d"):
        sets.compare(pictures, pictures, "inception")
    with pytest.raises(DditError, match="6726825d"):
        sets.features(sets.network("inception"), noise(1, 3, 8, 8))

    gone = sets.dinov2_network("nobody/dinov2-none").missing()
    assert gone is not None
    assert "model.safetensors" in gone
    assert "hf download nobody/dinov2-none" in gone
    assert "`reader`" in gone

    monkeypatch.delenv("DDIT_CLIP_CHECKPOINT", raising=False)
    unnamed = sets.network("clip").missing()
    assert unnamed is not None
    assert "DDIT_CLIP_CHECKPOINT" in unnamed
    assert "ViT-L-14-336/openai" in unnamed
    assert sets.network("reader").missing() is None


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right shapes and without any training, made without the real file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr("torch.load", lambda *a, **k: None)
        torch.manual_seed(0)
        made = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path="none")
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(made.state_dict(), path)
    return path


def test_inception_features_are_torch_fidelity_s(random_inception: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    digest = file_digest(random_inception)
    network = sets.inception_network(random_inception, digest)
    # Other weights than the published ones do not bear the published names.
    assert network.name == f"inception-{digest[:8]}"
    assert comparison.metric_name("frechet", network) == f"frechet-inception-{digest[:8]}"
    pictures = noise(2, 3, 40, 50)
    found = sets.features(network, pictures)
    golden = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(random_inception))
    (expected,) = golden((pictures * 255).round().to(torch.uint8))
    torch.testing.assert_close(found, expected)
    (truncated,) = golden((pictures * 255).to(torch.uint8))
    assert not torch.allclose(found, truncated, rtol=1e-5, atol=0)


def test_other_weights_under_inception_s_name(random_inception: Path) -> None:
    why = sets.inception_network(random_inception).missing()
    assert why is not None
    assert "and not 6726825d" in why


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"state": Trap()}, protocol=2))
    network = sets.inception_network(path, file_digest(path))
    with pytest.raises(DditError, match="does not load as Inception"):
        sets.features(network, noise(1, 3, 8, 8))
    assert not (tmp_path / "sprung").exists()


def test_dinov2_from_a_folder(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "tiny")
    network = sets.dinov2_network(tmp_path / "tiny")
    assert (network.name, network.dimension) == ("dinov2-tiny", 32)
    pictures = to_bytes(noise(2, 3, 224, 224))  # of the network's own size: nothing is resized
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (pictures / 255 - mean[:, None, None]) / deviation[:, None, None]
    with torch.no_grad():
        expected = model(pixel_values=x).pooler_output
    torch.testing.assert_close(sets.features(network, pictures / 255), expected, rtol=1e-4, atol=1e-4)
    assert sets.features(network, noise(3, 3, 40, 60)).shape == (3, 32)
    wrong = sets.dinov2_network(tmp_path / "tiny", sha256="0" * 64).missing()
    assert wrong is not None
    assert "SHA-256" in wrong
    weights = tmp_path / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(DditError, match=r"model\.safetensors does not load as safetensors"):
        sets.features(sets.dinov2_network(tmp_path / "tiny"), noise(1, 3, 40, 60))


def test_clip_from_a_folder(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    shape = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    folder = tmp_path / "Tiny CLIP"
    folder.mkdir()
    save_file(open_clip.model.CLIP(**shape).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape, "preprocess_cfg": {}}))
    network = sets.clip_network(folder)
    assert (network.name, network.dimension) == ("clip-tiny-clip", 16)
    pictures, against = sets.tensor_set(noise(10, 3, 32, 32)), sets.tensor_set(noise(10, 3, 32, 32, seed=1))
    (row,) = sets.compare(pictures, against, network, families=["cmmd"], resamples=20)
    assert row.metric == "cmmd-clip-tiny-clip"
    found = [sets.cached_features(s, network) for s in (pictures, against)]
    assert row.interval.value == pytest.approx(sets.cmmd(*found))


def test_register_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_FACTORIES", dict(networks._FACTORIES))
    sets.register("means", means)
    assert "means" in sets.names()
    assert sets.features(sets.network("means"), noise(3, 3, 8, 8)).shape == (3, 6)
    with pytest.raises(DditError, match="'means' already"):
        sets.register("means", means)
    with pytest.raises(DditError, match="unknown feature network 'vgg'; there are clip"):
        sets.network("vgg")


def test_a_network_that_breaks_its_word() -> None:
    flat = sets.Network("flat", 3, "", lambda p: p.mean((1, 2, 3)))
    with pytest.raises(DditError, match="registered with"):
        sets.features(flat, noise(2, 3, 8, 8))
    broken = sets.Network("broken", 3, "", lambda p: p.mean((2, 3)) / 0)
    with pytest.raises(DditError, match="nan or infinite"):
        sets.features(broken, noise(2, 3, 8, 8))


def test_importing_sets_loads_no_networks() -> None:
    code = (
        "import sys, ddit_eval.metrics.sets as sets\n"
        "heavy = {'torchvision', 'torch_fidelity', 'open_clip', 'transformers', 'torchmetrics'}\n"
        "sets.network('reader'), sets.compare, sets.prdc\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
