"""The table of all that can be measured: every number has its row, and every row its facts."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from ddit_eval import metrics
from ddit_eval.cli import app
from ddit_eval.metrics import sets
from ddit_eval.metrics.listing import rows


def test_every_metric_has_its_row() -> None:
    found = rows()
    names = [(row.of, row.name) for row in found]
    assert len(set(names)) == len(names)
    for subject in ("pictures", "films"):
        columns = {c.name for name in metrics.names(subject) for c in metrics.get(name).columns}
        assert {row.name for row in found if row.of == subject} == columns
    for network in sets.names():
        assert len([row for row in found if row.of == "set" and row.network == network]) == 8
    assert {"fid", "kid", "cmmd", "frechet-reader", "fid-infinity"} <= {row.name for row in found}


def test_every_row_says_what_it_needs() -> None:
    for row in rows():
        assert row.direction in ("higher", "lower")
        assert row.source, row
        assert row.low is None or row.high is None or row.low < row.high
        # A trained network names its weights; whatever is missing has an alternative.
        trained = row.network is not None and not row.network.startswith("none")
        assert (row.weights is not None) == trained or row.name == "clip", row
        if row.missing is None and row.weights:
            assert "sha256" in row.weights, row  # the file that is used, by its hash
        if row.missing:
            assert "measure" in row.missing or "leave the dimension out" in row.missing, row
    by_name = {row.name: row for row in rows()}
    assert by_name["psnr"].range == "0 .. inf"
    assert "SHA-256 6726825d" in str(by_name["fid"].weights)
    assert by_name["frechet-reader"].missing is None


def test_every_column_says_what_it_decides() -> None:
    about = {k: v for name in metrics.names() for k, v in metrics.get(name).describe().items()}
    for name, facts in about.items():
        assert facts["title"], name
        assert facts["digits"] > 0, name
    assert (about["psnr"]["title"], about["psnr"]["unit"], about["psnr"]["digits"]) == (
        "PSNR to base",
        "dB",
        1,
    )
    ranked = {
        role: sorted((n for n in about if about[n]["role"] == role), key=lambda n: about[n]["rank"])
        for role in ("fidelity", "adherence")
    }
    assert ranked["fidelity"] == ["psnr", "lpips", "reader-lpips", "ssim"]
    assert ranked["adherence"][0] == "object-accuracy"
    scores = {name for name in about if about[name]["role"] == "score"}
    assert {"clip", "clip-world", "image-reward", "motion_smoothness-classical"} <= scores
    margins = {name: facts["margin"] for name, facts in about.items() if facts["margin"] is not None}
    assert (margins["clip"], margins["ssim"], margins["image-reward"]) == (1.0, 0.05, 0.05)
    assert margins["object-frames"] == margins["object-accuracy"] == margins["direction-accuracy"] == 0.05
    assert margins["subject_consistency-reader"] == 0.01
    assert not {"psnr", "temporal_flickering", "dynamic_degree", "lpips", "hpsv2", "aesthetic"} & set(margins)


def test_the_command_lists_them_all(wide: None) -> None:
    result = CliRunner().invoke(app, ["metrics"])
    assert result.exit_code == 0, result.exception
    assert all(row.name in result.output for row in rows())
    assert "reader.safetensors" in result.output


def test_the_table_loads_no_networks() -> None:
    code = (
        "import sys; from ddit_eval.metrics.listing import rows; rows(); "
        "assert not {'open_clip', 'torch_fidelity', 'lpips', 'diffusers'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
