"""The mean of several runs' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddit_eval.errors import DditError
from experiments.recipes.average import average
from tests.support.tiny import tiny_flux


def test_the_mean_of_pipelines_is_a_pipeline(tmp_path: Path) -> None:
    for seed in (0, 1):
        tiny_flux(seed).save_pretrained(tmp_path / str(seed))
    average(tmp_path / "mean", {tmp_path / "0": 0.25, tmp_path / "1": 0.75})
    name = "transformer/diffusion_pytorch_model.safetensors"
    first, second, mean = (load_file(tmp_path / folder / name) for folder in ("0", "1", "mean"))
    for key, value in mean.items():
        torch.testing.assert_close(value, 0.25 * first[key] + 0.75 * second[key])
    assert (tmp_path / "mean" / "model_index.json").is_file()


def test_weights_that_do_not_match_are_refused(tmp_path: Path) -> None:
    tiny_flux().save_pretrained(tmp_path / "0")
    tiny_flux(guidance_embeds=True).save_pretrained(tmp_path / "1")
    with pytest.raises(DditError, match="not of one shape"):
        average(tmp_path / "mean", {tmp_path / "0": 0.5, tmp_path / "1": 0.5})
    with pytest.raises(DditError, match="add up to 1"):
        average(tmp_path / "other", {tmp_path / "0": 0.5})
