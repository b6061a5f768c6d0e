"""The path of an experiment that makes clips: records, measures, timing, study, commands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddit_eval.ddit.layout import uniform
from ddit_eval.errors import DditError
from ddit_eval.experiment.evaluate import evaluate, pictures_of
from ddit_eval.experiment.export import _named as named
from ddit_eval.experiment.export import export
from ddit_eval.experiment.generate import Generator, generate, records_of
from ddit_eval.experiment.prompts import load_prompts
from ddit_eval.experiment.records import Store
from ddit_eval.experiment.setting import Setting
from ddit_eval.experiment.time import time_experiment
from ddit_eval.folders.compare import compare
from ddit_eval.metrics.films.frames import read
from ddit_eval.models import flops
from ddit_eval.models.cost import calls_a_step, flop_table
from ddit_eval.study.measure import PictureEvaluator, prompt_sets
from ddit_eval.system.films import write_film, write_sample
from tests.support.jobs import JOB, STEP
from tests.support.tiny_wan import tiny_wan


def film(count: int = 5, side: int = 8) -> list[Image.Image]:
    """Frames of which the third and fourth are the same."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(count)]
    frames[3] = frames[2]
    return frames


def levels(frames: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(frame) for frame in frames])


@pytest.fixture(scope="module")
def filled(tiny_video: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    outcome = generate(tiny_video.experiment(), folder)
    assert (outcome.total, outcome.made) == (10, 10)
    return folder


def test_a_clip_comes_back_level_by_level(tmp_path: Path) -> None:
    store, job = Store(tmp_path), JOB.model_copy(update={"frames": 5})
    saved = store.save(job, levels(film()), [STEP])
    assert store.load(job.key) == saved
    assert (levels(store.frames(saved)) == levels(film())).all()


def test_a_clip_in_which_nothing_moves_keeps_its_frames(tmp_path: Path) -> None:
    store, frame = Store(tmp_path), film()[0]
    saved = store.save(JOB.model_copy(update={"frames": 5}), levels([frame] * 5), [STEP])
    assert [f.tobytes() for f in store.frames(saved)] == [frame.tobytes()] * 5


def test_a_clip_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    store, job = Store(tmp_path), JOB.model_copy(update={"frames": 5})
    path = tmp_path / store.save(job, levels(film()), [STEP]).image
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DditError, match="not the picture that was written"):
        store.load(job.key)


def test_frames_are_part_of_a_clips_key_and_of_no_pictures() -> None:
    assert JOB.model_copy(update={"frames": 5}).key != JOB.key
    assert JOB.model_copy(update={"frames": 5}).key != JOB.model_copy(update={"frames": 9}).key
    assert JOB.model_copy(update={"frames": 5, "fps": 16}).key == JOB.model_copy(update={"frames": 5}).key


def test_an_experiment_makes_clips(tiny_video: Any, filled: Path) -> None:
    records = records_of(tiny_video.experiment(), filled)
    store = Store(filled / "records")
    shape = pictures_of(store, records["base"]).shape
    assert tuple(shape) == (2, 9, 3, 32, 32)
    for one, two in zip(records["base"], records["base-again"], strict=True):
        assert (store.levels(one) == store.levels(two)).all()
    assert {s.tokens for r in records["always-2p"] for s in r.trace} == {3 * 4}
    assert {s.tokens for r in records["base"] for s in r.trace} == {3 * 16}
    assert len(records["ddit"][0].trace) == 4  # two calls a step are one step


def test_frames_that_the_model_cannot_make_are_named(tiny_video: Any) -> None:
    experiment = tiny_video.experiment(frames=8)
    setting = Setting(experiment)
    with Generator(setting) as generator, pytest.raises(DditError, match=r"frames: 8 .* ask for 9"):
        generator.sample([setting.jobs()["base"][0]])


def test_a_picture_metric_is_the_mean_over_frames(tiny_video: Any, filled: Path, tmp_path: Path) -> None:
    experiment = tiny_video.experiment()
    quality = evaluate(experiment, filled, tmp_path).plain()
    rows = {row["method"]: row for row in quality["rows"]}
    store, records = Store(filled / "records"), records_of(experiment, filled)
    ours, base = (pictures_of(store, records[name]) for name in ("always-2p", "base"))
    errors = (ours - base).double().square().mean((2, 3, 4))
    expected = float((-10 * errors.log10()).mean())
    assert rows["always-2p"]["quality"]["psnr"]["value"] == pytest.approx(expected, rel=1e-4)
    assert math.isinf(float(rows["base-again"]["quality"]["psnr"]["value"]))
    assert {"object-frames", "direction-accuracy", "temporal_flickering"} <= set(quality["metrics"])
    assert rows["always-2p"]["flop_ratio"] > 1
    assert {d["metric"] for d in quality["damage"]} >= {"temporal_flickering"}


def test_sets_are_for_pictures(tiny_video: Any, filled: Path, tmp_path: Path) -> None:
    experiment = tiny_video.experiment(sets={"reference": "world:heldout:4:seed9:64px"})
    with pytest.raises(DditError, match="makes clips"):
        evaluate(experiment, filled, tmp_path)


def test_clips_are_timed_by_stage(tiny_video: Any, tmp_path: Path) -> None:
    experiment = tiny_video.experiment(methods=tiny_video.data()["methods"][:1])
    content = time_experiment(experiment, tmp_path / "timing.json").plain()
    seconds = content["rows"][0]["stages"]
    assert all(seconds[part] > 0 for part in ("denoise", "text", "decode", "end_to_end"))
    assert seconds["end_to_end"] > seconds["decode"]


def test_a_trial_is_measured_on_clips(tiny_video: Any) -> None:
    experiment = tiny_video.experiment()
    setting = Setting(experiment)
    evaluator = PictureEvaluator(setting, prompt_sets(setting))
    try:
        score, null = (evaluator.measure(experiment.method(name), 0) for name in ("always-2p", "base"))
    finally:
        evaluator.close()
    assert (score.cost < 1, null.cost, null.quality) == (True, 1.0, 100.0)
    assert 0 < score.quality < 100
    assert score.picture is not None
    assert score.picture.size == (32, 32)


def test_operations_agree_with_torchs_count(tiny_video: Any) -> None:
    pipe = tiny_wan()
    table = flop_table(tiny_video.model, None, 32, 32, 9)
    import torch

    inputs = {
        "hidden_states": torch.zeros(1, 3, 3, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.zeros(1, 32, 16),
    }
    counted = flops.counted(lambda: pipe.transformer(**inputs))
    assert table[1] == pytest.approx(counted, rel=0.02)
    parts = flops.parts(pipe.transformer, uniform((3, 4, 4), 1), 32)
    assert sum(parts.values()) == table[1]


def test_guidance_calls_twice(tiny_video: Any, tiny: Any) -> None:
    assert calls_a_step(tiny_video.experiment()) == 2
    assert calls_a_step(tiny_video.experiment(guidance_scale=1.0)) == 1
    assert calls_a_step(tiny.experiment()) == 1
    assert calls_a_step(tiny.experiment(true_cfg_scale=2.0)) == 2


def test_a_film_can_be_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    smooth = rng.integers(60, 200, (3,), np.uint8)
    frames = [Image.new("RGB", (32, 32), tuple(int(v) + 5 * i for v in smooth)) for i in range(5)]
    gif = read(write_film(frames, tmp_path / "a.gif", 10))
    assert len(gif.frames) == 5
    assert gif.fps == pytest.approx(10)
    pytest.importorskip("av")
    mp4 = read(write_sample(frames, tmp_path / "b", 10))
    assert mp4.fps == pytest.approx(10)
    assert np.abs(mp4.frames.permute(0, 2, 3, 1).numpy() * 255 - levels(frames)).max() < 6
    odd = [frame.resize((31, 31)) for frame in frames]
    assert write_sample(odd, tmp_path / "c", 10).suffix == ".gif"
    with pytest.raises(DditError, match="even sides, not 31 x 31"):
        write_film(odd, tmp_path / "d.mp4", 10)


def test_generate_writes_a_clip_its_twin_and_the_schedule(tiny_video: Any, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ddit_eval.cli import app

    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        ["generate", "a red star moves right", "--model", str(tiny_video.model), "--adapter",
         str(tiny_video.adapter), "--side", "32", "--frames", "9", "--steps", "4", "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    names = {p.stem for p in out.iterdir()}
    assert {"000", "000-base", "schedule"} <= names
    written = next(p for p in out.iterdir() if p.stem == "000")
    assert len(read(written).frames) == 9


def test_the_index_has_flops_of_clips(filled: Path, tiny_video: Any) -> None:
    found = json.loads((filled / "index.json").read_text())["flops"]
    table = flop_table(tiny_video.model, tiny_video.adapter, 32, 32, 9)
    assert found == {str(s): n for s, n in table.items()}
    assert table[4] < table[2] < table[1]


# Files for other suites.


def test_export_writes_the_names_that_vbench_looks_for(tiny_video: Any, filled: Path, tmp_path: Path) -> None:
    experiment = tiny_video.experiment()
    assert export(experiment, filled, "base", tmp_path / "vbench", ending=".gif") == 2
    prompts = [p.text for p in load_prompts(experiment.prompts)]
    assert sorted(p.name for p in (tmp_path / "vbench").iterdir()) == sorted(f"{p}-0.gif" for p in prompts)
    made = read(tmp_path / "vbench" / f"{prompts[1]}-0.gif")
    store = Store(filled / "records")
    ours = store.levels(records_of(experiment, filled)["base"][1])
    assert tuple(made.frames.shape) == (len(ours), 3, *ours.shape[1:3])
    assert export(experiment, filled, "base", tmp_path / "plain", "plain") == 2
    assert (tmp_path / "plain" / "001.txt").read_text().strip() == prompts[1]
    with pytest.raises(DditError, match=r"no method 'turbo', it has base"):
        export(experiment, filled, "turbo", tmp_path / "turbo")


def test_samples_of_one_prompt_are_counted_and_names_checked() -> None:
    def row(text: str) -> Any:
        return JOB.model_copy(update={"prompt": text})

    rows = [row(text) for text in ("a cat", "a dog", "a cat")]
    assert [name for name, _ in named(rows, ".mp4")] == ["a cat-0.mp4", "a dog-0.mp4", "a cat-1.mp4"]
    for text, why in (
        ("either/or", "no file name may hold"),
        ("a\x1b[31m star", "no file name may hold"),
        ("long " * 60, "too long"),
        ("A Cat", "take for 'a cat-0.mp4'"),
    ):
        with pytest.raises(DditError, match=why):
            named([row("a cat"), row(text)], ".mp4")


def test_every_film_that_cannot_be_measured_is_named(tmp_path: Path) -> None:
    for number in range(3):
        write_film(film(), tmp_path / f"good{number}.gif", 10)
    write_film(film(side=10), tmp_path / "large.gif", 10)
    write_film(film(), tmp_path / "slow.gif", 5)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    (tmp_path / "still.gif").write_bytes(b"")
    with pytest.raises(DditError, match=r"4 of 7 films") as caught:
        compare(tmp_path)
    for name, why in (
        ("broken.gif", "cannot be read"),
        ("still.gif", "cannot be read"),
        ("large.gif", r"(5, 3, 10, 10), most have (5, 3, 8, 8)"),
        ("slow.gif", "frames a second 5.0, most have 10.0"),
    ):
        assert name in str(caught.value)
        assert why in str(caught.value)
