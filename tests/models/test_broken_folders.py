"""A model's folder is loaded whole, and as what its index says, or refused in one line with the remedy."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from ddit_eval.errors import DditError
from ddit_eval.models.cost import flop_table, transformer_of
from ddit_eval.models.find import find, fingerprint, text_tokens
from ddit_eval.models.load import load_pipeline
from ddit_eval.system import networks, read
from tests.support import tiny_families
from tests.support.tiny import tiny_transformer

TEXT, IMAGE = "text_encoder_2/model.safetensors", "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tiny: Any, tmp_path: Path) -> Path:
    shutil.copytree(tiny.model, tmp_path / "model")
    return tmp_path / "model"


def edit(file: str, **changes: Any) -> Callable[[Path], None]:
    """Change the JSON `file`; a value of `...` removes its key."""

    def apply(model: Path) -> None:
        data = json.loads((model / file).read_text()) | changes
        (model / file).write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))

    return apply


def tensors(file: str, change: Callable[[dict[str, Any], str], Any]) -> Callable[[Path], None]:
    """Change the first two-dimensional tensor of `file`."""

    def apply(model: Path) -> None:
        held = load_file(model / file)
        change(held, min(name for name, value in held.items() if value.ndim == 2))
        save_file(held, model / file, {"format": "pt"})

    return apply


def half(model: Path) -> None:
    os.truncate(model / IMAGE, (model / IMAGE).stat().st_size // 2)


INDEX, CONFIG = "model_index.json", "transformer/config.json"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a tensor lost": (tensors(TEXT, lambda t, k: t.pop(k)), "text_encoder_2: missing .* T5EncoderModel: enc"),
    "a tensor lost from diffusers' part": (tensors(IMAGE, lambda t, k: t.pop(k)), "transformer: missing"),
    "a tensor renamed": (tensors(TEXT, lambda t, k: t.update(other=t.pop(k))), "text_encoder_2: missing"),
    "a tensor too many": (
        tensors(IMAGE, lambda t, k: t.update(other=t[k].clone())),
        "transformer: unexpected in the weights of FluxTransformer2DModel: other",
    ),
    "a tensor of another shape": (
        tensors(IMAGE, lambda t, k: t.update({k: torch.cat([t[k]] * 2)})),
        "transformer does not load as Flux",
    ),
    "half a file": (half, "diffusion_pytorch_model.safetensors does not load as safetensors"),
    "pickles only": (
        lambda m: (m / IMAGE).rename(m / "transformer/diffusion_pytorch_model.bin"),
        "transformer holds no weights as safetensors",
    ),
    "a part lost": (lambda m: shutil.rmtree(m / "vae"), "vae is missing"),
    "fewer layers than weights": (edit(CONFIG, num_single_layers=1), "transformer: unexpected"),
    "hidden size 1e9": (edit(CONFIG, attention_head_dim=10**9), "attention_head_dim is 1000000000, which no"),
    "hidden size 1e7": (edit(CONFIG, attention_head_dim=10**7), "its weights do not fit"),
    "1e6 layers": (edit(CONFIG, num_layers=10**6), "its weights do not fit: the network is far larger"),
    "1e6 layers of text": (edit("text_encoder_2/config.json", num_layers=10**6), "its weights do not fit"),
    "a size that is text": (edit(CONFIG, num_layers="x"), "does not load as FluxTransformer2DModel"),
    "code in the folder": (
        edit(INDEX, vae=["evil", "Evil"]),
        r"vae is \['evil', 'Evil'\], which is no class",
    ),
    "a pipeline in the folder": (edit(INDEX, _class_name=["evil", "Evil"]), "is no pipeline of diffusers"),
    "no pipeline class": (edit(INDEX, _class_name=...), "is no pipeline of diffusers"),
    "an entry that is a function": (edit(INDEX, vae=["transformers", "pipeline"]), "which is no class"),
    "an entry lost": (edit(INDEX, text_encoder=...), "does not load as a pipeline"),
    "a scheduler's number that is text": (
        edit("scheduler/scheduler_config.json", base_shift="x"),
        "base_shift is 'x', which is no",
    ),
    "1e9 steps of training": (
        edit("scheduler/scheduler_config.json", num_train_timesteps=10**9),
        "num_train_timesteps is 1000000000, which no",
    ),
    "a part that is another": (
        edit(INDEX, text_encoder=["transformers", "T5Tokenizer"]),
        "text_encoder is T5Tokenizer, which is no text_encoder",
    ),
    "a tokenizer without settings": (
        lambda m: (m / "tokenizer/tokenizer_config.json").unlink(),
        "tokenizer_config.json is missing",
    ),
    "a list for an index": (lambda m: (m / INDEX).write_text("[]"), "holds no configuration"),
    "a tokenizer of null": (
        lambda m: (m / "tokenizer/tokenizer.json").write_text("null"),
        "no configuration",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_whole_is_refused_in_one_line(case: str, model: Path) -> None:
    damage, says = BROKEN[case]
    damage(model)
    with pytest.raises(DditError, match=says) as caught:
        load_pipeline(model)
    assert "copy the whole folder again" in str(caught.value) or "copy both again" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert torch.get_default_dtype() == torch.float32


def test_costs_on_paper_refuse_the_same(model: Path) -> None:
    edit("vae/config.json", block_out_channels=7)(model)
    with pytest.raises(DditError, match="does not load as a VAE's configuration"):
        flop_table(model, None, 32, 32)
    edit(CONFIG, num_layers=10**6)(model)
    with pytest.raises(DditError, match="the network is far larger"):
        transformer_of(model)


def test_a_machine_too_small_says_so_before_anything_is_loaded(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("virtual_memory", "swap_memory"):
        monkeypatch.setattr(psutil, name, lambda: type("Few", (), {"total": 1000}))
    with pytest.raises(DditError, match="GiB of memory and this machine has 0"):
        load_pipeline(model)


def test_shards_are_whole_too(tmp_path: Path) -> None:
    network = tiny_transformer()
    network.save_pretrained(tmp_path, max_shard_size="40KB")
    kinds = {tmp_path: type(network)}
    loaded = networks.load_networks(kinds, torch.float32)[tmp_path].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    shard = min(tmp_path.glob("*-00002-of-*.safetensors"))
    held = load_file(shard)
    lost, _ = held.popitem()
    save_file(held, shard, {"format": "pt"})
    with pytest.raises(DditError, match=f"{shard.name} lacks {lost}"):
        networks.load_networks(kinds, torch.float32)


@pytest.mark.parametrize("family", list(tiny_families.MAKERS))
def test_networks_of_every_family_load_whole(family: str, tmp_path: Path) -> None:
    pipe = tiny_families.MAKERS[family]().pipe
    kinds = {tmp_path / part: type(getattr(pipe, part)) for part in ("transformer", "vae")}
    for folder in kinds:
        getattr(pipe, folder.name).save_pretrained(folder)
    for folder, network in networks.load_networks(kinds, torch.float32).items():
        before, after = getattr(pipe, folder.name).state_dict(), network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("left", [("shared",), ("encoder.embed_tokens",), ("shared", "encoder.embed_tokens")])
def test_tied_embeddings_may_be_stored_under_either_name(left: tuple[str, ...], model: Path) -> None:
    from transformers import T5EncoderModel

    folder = model / "text_encoder_2"
    held = load_file(model / TEXT)
    words = held.pop("shared.weight")
    save_file(held | {f"{n}.weight": words.clone() for n in left}, model / TEXT, {"format": "pt"})
    network = networks.load_networks({folder: T5EncoderModel}, torch.float32)[folder]
    assert torch.equal(network.encoder.embed_tokens.weight, words)


def test_the_fingerprint_is_of_all_that_can_change_a_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "LARGE", 1000)
    monkeypatch.setattr("ddit_eval.models.find.LARGE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = fingerprint(model)
    for aside in ("README.md", "vae/sample.png", ".git/config", "whole.safetensors"):
        (model / aside).parent.mkdir(exist_ok=True)
        (model / aside).write_text("x")
    assert fingerprint(model) == before
    seen = {before}
    for counts in ("text_encoder/model.bin", "tokenizer/merges.txt", "tokenizer_2/spiece.model"):
        (model / counts).write_text("x")
        seen.add(fingerprint(model))
    middle, times = model / IMAGE, os.stat(model / IMAGE)
    with middle.open("r+b") as file:
        file.seek(times.st_size // 2)
        file.write(b"changed")
    os.utime(middle, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened
    seen.add(fingerprint(model))
    (model / "vae").rename(tmp_path / "elsewhere")
    (model / "vae").symlink_to(tmp_path / "elsewhere")
    assert fingerprint(model) in seen
    (tmp_path / "elsewhere" / "more.txt").write_text("x")
    seen.add(fingerprint(model))
    assert len(seen) == 6
    assert len(json.loads((tmp_path / "cache/ddit_eval/digests.json").read_text())) > 2
    for damaged in ("", "[]", '{"a": 1}', "[" * 100_000):
        (tmp_path / "cache/ddit_eval/digests.json").write_text(damaged)
        read._file_digest.cache_clear()
        assert fingerprint(model) in seen


def test_names_come_before_folders_that_are_called_so(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddit_eval.ddit.adapter.places import find as find_adapter
    from ddit_eval.ddit.policies.calibration import path_of

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.model, "mini-flux")
    for look in (find, find_adapter, lambda name: path_of(name).parent):
        assert look("mini-flux").parts[-3:] != ("mini-flux",)
        assert look("mini-flux").is_absolute()
        assert look("./mini-flux") == look(Path("mini-flux")) == Path("mini-flux")
    assert text_tokens("./mini-flux") == 32
