"""Set metrics of a run's methods: the rows are those of compare and compare_paired, features once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddit_eval.errors import DditError
from ddit_eval.experiment.set_rows import set_rows
from ddit_eval.metrics import sets
from ddit_eval.metrics.damage import blur

REFERENCE = "world:heldout:40:seed1:64px"


@pytest.fixture(scope="module")
def methods() -> dict[str, torch.Tensor]:
    base = torch.cat(list(sets.picture_set("world:heldout:24:seed2:64px").pictures()))
    return {"base": base, "again": base.clone(), "blurred": blur(base).clamp(0, 1)}


def test_rows_are_those_of_the_set_metrics(methods: dict[str, torch.Tensor]) -> None:
    rows = [row.plain() for row in set_rows(methods, "base", REFERENCE, seed=3, resamples=20)]
    json.dumps(rows, allow_nan=False)
    assert [r["method"] for r in rows] == ["base"] * 7 + ["again"] * 7 + ["blurred"] * 7
    against = sets.picture_set(REFERENCE)
    ours, base = (sets.tensor_set(methods[name], name) for name in ("blurred", "base"))
    alone = sets.compare(ours, against, resamples=20, seed=3)
    both = sets.compare_paired([ours, base], 1, against, resamples=20, seed=3)[0]
    paired = [minus for _, minus in both]
    for row, one, other in zip(rows[14:], alone, paired, strict=True):
        assert row["metric"] == one.metric
        for key in ("value", "low", "high"):
            assert row["interval"][key] == pytest.approx(getattr(one.interval, key), rel=1e-6, abs=1e-9)
            assert row["difference"][key] == pytest.approx(getattr(other.interval, key), rel=1e-6, abs=1e-9)
        assert (row["n"], row["n_reference"], row["minus"]) == (24, 40, "base")
        assert (row["reference_hash"], row["minus_hash"]) == (against.hash, base.hash)
        assert row["network"] == "reader"
        assert "sha256" in row["preset"]
    assert all("difference" not in row for row in rows[:7])
    assert all(row["difference"]["value"] == pytest.approx(0, abs=1e-9) for row in rows[7:14])
    assert all(any("24 samples" in line for line in row["warnings"]) for row in rows)


def test_features_are_computed_once_a_picture(methods: dict[str, torch.Tensor], tmp_path: Path) -> None:
    calls: list[int] = []
    reader = sets.network("reader")

    def extract(pictures: torch.Tensor) -> torch.Tensor:
        calls.append(len(pictures))
        return reader.extract(pictures)

    counting = replace(reader, extract=extract)
    set_rows(methods, "base", REFERENCE, [counting], resamples=5)
    assert sum(calls) == 40 + 3 * 24
    calls.clear()
    set_rows(methods, "base", REFERENCE, [counting], resamples=5, cache=tmp_path)
    set_rows(methods, "base", REFERENCE, [counting], ["kid"], resamples=5, cache=tmp_path)
    assert sum(calls) == 40 + 2 * 24  # `again` has the base's pictures, and so its hash


def test_each_set_metric_stands_alone(methods: dict[str, torch.Tensor]) -> None:
    few, skipped = {name: same[:5] for name, same in methods.items()}, dict[str, str]()
    families = ["prdc", "frechet", "kid"]
    rows = set_rows(few, "base", REFERENCE, families=families, resamples=5, skipped=skipped)
    assert [row.metric for row in rows] == ["frechet-reader", "kid-reader"] * 3
    assert list(skipped) == ["prdc (reader)"]
    assert "more than 5 samples: there are 5" in skipped["prdc (reader)"]
    with pytest.raises(DditError, match="more than 5 samples"):
        set_rows(few, "base", REFERENCE, families=families, resamples=5)
    one = {name: same[:1] for name, same in methods.items()}
    assert set_rows(one, "base", REFERENCE, resamples=5, skipped=skipped) == []
    assert len(skipped) == 4


def test_bad_rows_are_refused(methods: dict[str, torch.Tensor]) -> None:
    with pytest.raises(DditError, match="base method 'none'; there are base, again, blurred"):
        set_rows(methods, "none", REFERENCE)
    with pytest.raises(DditError, match="few has 9 pictures and base 24"):
        set_rows({**methods, "few": methods["base"][:9]}, "base", REFERENCE)
    with pytest.raises(DditError, match="unknown set metric"):
        set_rows(methods, "base", REFERENCE, families=["fvd"])  # type: ignore[list-item]
