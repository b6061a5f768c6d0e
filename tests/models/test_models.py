from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.models.find import fingerprint, locate, text_tokens
from ddit_eval.models.load import default_side, load_pipeline
from ddit_eval.models.names import MODELS, known


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_loads_as_a_plain_flux_pipeline_with_the_world_s_defaults(tiny: Any, tmp_path: Path) -> None:
    from diffusers import FluxPipeline

    pipe = load_pipeline(tiny.model)
    assert type(pipe) is FluxPipeline
    assert pipe.dtype == torch.float32
    assert default_side(pipe) == 64
    assert text_tokens(tiny.model) == 32
    folder = Path(shutil.copytree(tiny.model, tmp_path / "model"))
    for file in folder.glob("tokenizer*/tokenizer_config.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": None}))
    assert text_tokens(folder) == 512
    # No 512 tokens of padding, whatever the pipeline asks for.
    assert pipe.encode_prompt("a red star", None)[0].shape[1] == 32


def test_the_tokenizer_lower_cases_and_names_words_that_it_does_not_know(tiny: Any) -> None:
    pipe = load_pipeline(tiny.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lower = pipe.encode_prompt("a red star above a blue square", None)[0]
        upper = pipe.encode_prompt("A RED star above a Blue square", None)[0]
    assert torch.equal(lower, upper)
    with pytest.warns(UserWarning, match="'elephant', 'zebra'") as caught:
        pipe.encode_prompt(["a red elephant", "a zebra and an Elephant"], None)
    assert len(caught) == 1


def test_saving_a_loaded_pipeline_leaves_no_trace_of_us(tiny: Any, tmp_path: Path) -> None:
    load_pipeline(tiny.model).save_pretrained(tmp_path)
    before = json.loads((tiny.model / "model_index.json").read_text())
    after = json.loads((tmp_path / "model_index.json").read_text())
    after.pop("_name_or_path")  # diffusers notes where it came from
    assert after == before
    again = load_pipeline(tmp_path)
    ids = [p.tokenizer_2("a red star").input_ids for p in (again, load_pipeline(tiny.model))]
    assert ids[0] == ids[1]


def test_unknown_models_name_the_known_ones(empty_cache: None) -> None:
    with pytest.raises(DditError) as caught:
        load_pipeline("maxi-flux")
    assert "'maxi-flux'" in str(caught.value)
    assert all(name in str(caught.value) for name in MODELS)


@pytest.mark.parametrize("name", ["FLUX.1-dev", "flux.1-dev", "black-forest-labs/FLUX.1-dev"])
def test_weights_that_are_not_here_come_with_the_remedy(empty_cache: None, name: str) -> None:
    with pytest.raises(DditError, match=r"hf download black-forest-labs/FLUX\.1-dev"):
        load_pipeline(name)


def test_other_hub_ids_and_folders_that_are_no_pipeline(empty_cache: None, tmp_path: Path) -> None:
    with pytest.raises(DditError, match="hf download someone/something"):
        locate("someone/something")
    with pytest.raises(DditError, match=r"model_index\.json"):
        locate(tmp_path)


def test_a_folder_that_lost_its_weights(tiny: Any, tmp_path: Path) -> None:
    shutil.copytree(tiny.model, tmp_path / "broken")
    for path in (tmp_path / "broken" / "transformer").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(DditError, match="transformer holds no weights"):
        load_pipeline(tmp_path / "broken")


def test_names_are_found_in_any_case() -> None:
    assert known("FLUX.1-DEV") is MODELS["FLUX.1-dev"]
    assert known("./mini-flux") is None


def test_the_fingerprint_sees_one_changed_byte(tmp_path: Path) -> None:
    weights = tmp_path / "model" / "w.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"12345678")
    before = fingerprint(tmp_path / "model")
    assert fingerprint(tmp_path / "model") == before
    weights.write_bytes(b"12345679")
    assert fingerprint(tmp_path / "model") != before
    with pytest.raises(DditError, match="no folder"):
        fingerprint(tmp_path / "nothing")
