"""The models of the result files: what is written reads again, what does not belong is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ddit_eval import stats
from ddit_eval.ddit.trace import StepTrace
from ddit_eval.errors import DditError
from ddit_eval.schema import Index, Measured, Quality, Record, Traces, differences, read, write
from ddit_eval.schema.model import Interval, Result
from tests.support.jobs import JOB

RULE = {"kind": "threshold", "tau": 0.4, "scales": [2, 4]}
OF = {
    "model": "mini-flux", "model_hash": "1" * 12, "adapter": "mini-flux", "adapter_hash": "2" * 12,
    "dtype": "float32", "policy": RULE, "steps": 24, "size": [64, 64], "guidance_scale": 3.5,
    "true_cfg_scale": 1.0, "prompts": "3" * 12, "code": "4" * 12,
}  # fmt: skip


def measured(**changes: Any) -> Measured:
    return Measured.model_validate(OF | changes)


class Holder(Result):
    value: Interval
    absent: int | None = None
    null: int | None


@pytest.mark.parametrize("value", [1.5, math.inf, -math.inf, math.nan])
def test_an_interval_survives_json(value: float) -> None:
    holder = Holder(value=stats.Interval(value, value, value, 3, 1, "why"), null=None)
    plain = json.loads(json.dumps(holder.plain(), allow_nan=False))
    assert plain == {"value": holder.value.to_json(), "null": None}
    assert str(Holder.model_validate(plain)) == str(holder)


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    index = Index(methods={"base": ("a", "b")}, flops={1: 100, 2: 30})
    write(tmp_path / "index.json", index)
    assert read(tmp_path / "index.json", Index) == index


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "Index: Input should be"),
        ('{"methods": {}}', "flops is not there"),
        ('{"methods": {}, "flops": {}, "more": 1}', "more is not a known name"),
        ('{"methods": {"base": 3}, "flops": {"1": "x"}}', "methods.base"),
        ('{"methods": {}, "methods": {}, "flops": {}}', "'methods' stands twice"),
        ('{"methods": {}, "flops": {}}', "not as it was written"),
        ('{"methods": {}, "flops": {"1": 3}, "checksum": "0"}', "not as it was written"),
        ('{"methods": {"\\ud800": []}, "flops": {}}', "surrogate"),
        ('{"a": ' * 990 + "1" + "}" * 990, "Make it anew"),
        ("[" * 100_000, "nests too deep"),
        ("null", "valid dictionary"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_with_place_and_remedy(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(DditError) as caught:
        read(path, Index)
    assert says.casefold() in str(caught.value).casefold()
    assert str(path) in str(caught.value)
    assert "ddit-eval run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_of_an_older_version_say_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DditError, match=r"traces.json is missing. Make it anew: `ddit-eval evaluate"):
        read(tmp_path / "traces.json", Traces)
    old = {"profile": "quick", "model": "m", "adapter": None, "n": 1, "prompts_hash": "", "reference": "base",
           "reference_hash": "", "rows": [{"method": "base"}], "metrics": {}}  # fmt: skip
    (tmp_path / "quality.json").write_text(json.dumps(old))
    with pytest.raises(DditError, match=r"rows.0.of is not there .* `ddit-eval evaluate"):
        read(tmp_path / "quality.json", Quality)


def test_a_record_keeps_its_steps_and_leaves_out_what_only_some_have(tmp_path: Path) -> None:
    plain = StepTrace(0, 1000.0, 1, None, 64, 64, 0.5)
    mixed = StepTrace(1, 500.0, 4, {2: 0.1, 4: 0.2}, 20, 64, 0.25, {2: 12, 4: 8}, "24", 100)
    key, sha = JOB.key, "0" * 64
    record = Record(key=key, image=f"{key}.png", image_sha256=sha, trace=(plain, mixed), **dict(JOB))
    write(tmp_path / "a.json", record)
    assert read(tmp_path / "a.json", Record) == record
    first, second = json.loads((tmp_path / "a.json").read_text())["trace"]
    assert set(first) == {"index", "timestep", "scale", "signals", "tokens", "base_tokens", "seconds"}
    assert (second["signals"], second["counts"]) == ({"2": 0.1, "4": 0.2}, {"2": 12, "4": 8})
    assert record.of("p").policy == {"kind": "base"}


def test_differences_name_each_fact_and_both_values() -> None:
    other = measured(policy=RULE | {"tau": 0.5}, steps=12, model="/elsewhere", adapter_hash=None)
    assert differences(measured(), measured(model="/elsewhere")) == []
    assert differences(measured(), other, "timing.json", "quality.json") == [
        f"adapter_hash is {'2' * 12!r} in timing.json and None in quality.json",
        "policy.tau is 0.4 in timing.json and 0.5 in quality.json",
        "steps is 24 in timing.json and 12 in quality.json",
    ]
    assert differences(measured(), measured(policy={"kind": "base"}), but=("code",)) == [
        "policy.kind is 'threshold' in the one and 'base' in the other"
    ]


def test_the_digest_is_blind_to_names_and_to_nothing_else() -> None:
    assert measured(model="/elsewhere").digest == measured().digest
    changes = {"policy": {"kind": "base"}, "steps": 1, "size": [32, 64], "prompts": "5", "code": "6"}
    digests = {measured(**{name: value}).digest for name, value in changes.items()}
    assert len(digests | {measured().digest}) == 1 + len(changes)
