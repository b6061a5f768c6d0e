"""mini-flux and mini-wan are plain diffusers folders: diffusers alone gets the pictures that we get."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from ddit_eval.models.find import locate
from ddit_eval.models.load import load_pipeline

KINDS = {"mini-flux": "FluxPipeline", "mini-wan": "WanPipeline"}
# As the card (ddit_eval/weights/README.md) states them.
CALLS: dict[str, dict[str, Any]] = {
    "mini-flux": {"height": 64, "width": 64, "max_sequence_length": 32},
    "mini-wan": {"height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 32},
}
# Upper case, and a word that neither model knows.
MORE = {"prompt": ["a RED star above a blue elephant"], "num_inference_steps": 2, "output_type": "latent"}

# argv: what to run, as JSON: name, kind, folder, copy (where to save it), the call. Prints digests by name.
PLAIN = """
import hashlib, json, sys, diffusers, torch

torch.set_num_threads(1)

def digest(folder, dtype=None, copy=None):
    pipe = kind.from_pretrained(folder, **({"torch_dtype": dtype} if dtype else {}))
    pipe.set_progress_bar_config(disable=True)
    out = pipe(**call, generator=torch.Generator().manual_seed(5))
    latents = (out.frames if hasattr(out, "frames") else out.images).float().contiguous()
    if copy:
        pipe.save_pretrained(copy)
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()


found = {}
for name, kind, shipped, ours, copy, call in json.loads(sys.argv[1]):
    kind = getattr(diffusers, kind)
    found[name] = {
        "unsaid": digest(shipped, copy=copy),
        "float32": digest(shipped, torch.float32),
        "bfloat16": digest(shipped, torch.bfloat16),
        "saved": digest(copy),
        "saved by us": digest(ours),
    }
assert "ddit_eval" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The last bits depend on how many threads share a product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digest(pipe: Any, call: dict[str, Any]) -> str:
    pipe.set_progress_bar_config(disable=True)
    with pytest.warns(UserWarning, match="'elephant'"):
        out = pipe(**call, generator=torch.Generator().manual_seed(5))
    latents = (out.frames if hasattr(out, "frames") else out.images).float().contiguous()
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this package and diffusers alone save each model: "NAME-ours" and "NAME-plain"."""
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def plain(copies: Path) -> dict[str, dict[str, str]]:
    """Digests of the latents that a process gets which never imports this package."""
    for name in KINDS:
        load_pipeline(name, device="cpu").save_pretrained(copies / f"{name}-ours")
    todo = [
        (name, kind, str(locate(name)), f"{copies}/{name}-ours", f"{copies}/{name}-plain", CALLS[name] | MORE)
        for name, kind in KINDS.items()
    ]
    done = subprocess.run([sys.executable, "-c", PLAIN, json.dumps(todo)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", list(KINDS))
def test_diffusers_alone_gets_the_same_bits_from_the_folder_and_from_saved_copies(
    name: str, plain: dict[str, dict[str, str]], copies: Path
) -> None:
    call = CALLS[name] | MORE
    ours = digest(load_pipeline(name, device="cpu"), call)
    exact = {way: found for way, found in plain[name].items() if way != "bfloat16"}
    assert exact == dict.fromkeys(exact, ours)
    assert (
        plain[name]["bfloat16"] == digest(load_pipeline(name, device="cpu", dtype="bfloat16"), call) != ours
    )
    for copy in ("ours", "plain"):
        assert digest(load_pipeline(copies / f"{name}-{copy}", device="cpu"), call) == ours


def test_mini_flux_makes_its_own_size_and_tokens_where_none_are_said() -> None:
    pipe = load_pipeline("mini-flux", device="cpu")
    assert digest(pipe, MORE) == digest(pipe, CALLS["mini-flux"] | MORE)


@pytest.mark.parametrize(
    "part", ["mini-flux/tokenizer", "mini-flux/tokenizer_2", "mini-wan/tokenizer", "clip"]
)
def test_tokenizers_lower_case_and_read_back_as_they_were_saved(part: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(locate("mini-flux").parent / part)
    texts = ["a RED star above a Blue square", "", "a red elephant, an apple", "a star " * 20]
    padded = {"padding": "max_length", "max_length": 32, "truncation": True}
    ids = tokenizer(texts, **padded).input_ids
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(texts, **padded).input_ids == ids
    assert ids[0] == tokenizer(texts[0].lower(), **padded).input_ids
    assert all(len(one) == 32 for one in ids)
    assert set(tokenizer(texts[0])) == {"input_ids", "attention_mask"}


def test_the_card_is_short_and_states_the_calls() -> None:
    card = (locate("mini-flux").parent / "README.md").read_text()
    assert len(card.splitlines()) <= 80
    for name, kind in KINDS.items():
        call = card[card.index(f"{kind}.from_pretrained") :]
        assert all(f"{argument}={value}" in call for argument, value in CALLS[name].items())
