"""Metrics of folders: pairing by name, prompts beside the pictures, reasons for what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ddit_eval.cli import app
from ddit_eval.errors import DditError
from ddit_eval.folders.compare import compare, opened
from ddit_eval.folders.pictures import picture_folder
from ddit_eval.folders.prompts import prompts_of
from ddit_eval.world import caption, render, sample_scenes


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """World scenes with their captions, and the same a little darker."""
    scenes = sample_scenes(5, 0, 8)
    for name, light in (("ours", 0.9), ("theirs", 1.0)):
        (tmp_path / name).mkdir()
        for i, (scene, pixels) in enumerate(zip(scenes, render(scenes, 64), strict=True)):
            array = np.round(255 * light * pixels.transpose(1, 2, 0)).astype(np.uint8)
            Image.fromarray(array).save(tmp_path / name / f"{i:03d}.png")
            (tmp_path / name / f"{i:03d}.txt").write_text(caption(scene) + "\n")
    return tmp_path / "ours", tmp_path / "theirs"


def test_every_metric_that_applies(folders):
    got = compare(*folders)
    assert got.n == 8
    assert {"psnr", "ssim", "object-accuracy"} <= set(got.columns)
    assert got.columns["object-accuracy"].interval.value > 0.8
    assert got.columns["object-accuracy"].network == "world reader (shipped)"
    by_hand = [
        -10 * np.log10((((a - b) / 255.0) ** 2).mean())
        for a, b in ([np.asarray(Image.open(f / f"{i:03d}.png"), float) for f in folders] for i in range(8))
    ]
    assert got.columns["psnr"].interval.value == pytest.approx(np.mean(by_hand))
    sets = {row.metric: row for row in got.sets}
    assert sets["frechet-reader"].n == sets["frechet-reader"].n_reference == 8
    assert sets["frechet-reader"].interval.value > 0
    assert sets["frechet-reader"].warnings
    # What the prompt asks for is compared with the reference's own pictures, prompt by prompt.
    object_ = got.columns["object-accuracy"]
    theirs = compare(folders[1]).columns["object-accuracy"]
    assert object_.difference.value == pytest.approx(object_.interval.value - theirs.interval.value)
    assert object_.equivalence.margin == 0.05
    assert got.columns["psnr"].difference is None  # it is a comparison already
    assert got.pictures_hash != got.reference_hash == compare(folders[1]).pictures_hash
    assert sets["frechet-reader"].reference_hash == got.reference_hash
    alone = compare(folders[0])
    assert alone.reference_hash is None
    assert alone.skipped["set metrics"] == "need a reference set"
    assert alone.skipped["psnr"] == "needs a reference folder"
    assert "object-accuracy" in alone.columns


def test_every_picture_is_decoded_once(folders, monkeypatch):
    from ddit_eval.metrics import sets
    from ddit_eval.metrics.sets import reference

    read: list[Path] = []

    def counted(path: Path) -> np.ndarray:
        read.append(path)
        return plain(path)

    plain = reference.read_levels
    monkeypatch.setattr("ddit_eval.folders.pictures.read_levels", counted)
    monkeypatch.setattr(reference, "read_levels", counted)
    got = compare(*folders, only=["psnr", "kid", "prdc"])
    assert len(read) == len(set(read)) == 16
    rows = sets.compare(*map(sets.folder_set, folders), families=["kid", "prdc"])
    for row, same in zip(rows, got.sets, strict=True):
        alone, same = row.plain(), same.plain()
        numbers, others = alone.pop("interval"), same.pop("interval")
        assert alone == same  # hashes too: they are those of the files
        assert numbers == pytest.approx(others, abs=1e-5)  # batches differ


def test_many_pictures_are_extrapolated_and_features_kept(folders, tmp_path, monkeypatch):
    from ddit_eval.metrics import sets
    from ddit_eval.metrics.sets.feature_network import Network

    calls: list[int] = []

    def extract(pictures):
        calls.append(len(pictures))
        return pictures.mean((2, 3))[:, :2]

    monkeypatch.setattr("ddit_eval.metrics.sets.networks._FACTORIES", {})
    sets.register("light", lambda: Network("light", 2, "mean light", extract))
    rows = compare(*folders, only=["frechet"], network="light", cache=tmp_path / "kept").sets
    assert [row.metric for row in rows] == ["frechet-light", "frechet-infinity-light"]
    assert sum(calls) == 16  # once a picture, for both
    again = compare(*folders, only=["frechet"], network="light", cache=tmp_path / "kept").sets
    assert sum(calls) == 16
    assert again == rows


def test_deep_pictures_are_refused(folders):
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(folders[0] / "000.png")
    with pytest.raises(DditError, match=r"000\.png has more than 8 bits a channel"):
        picture_folder(folders[0]).check()


def test_a_set_of_the_world_is_a_reference_too(folders):
    got = compare(folders[0], "world:heldout:24:seed1:64px", only=["prdc", "adherence"])
    assert {row.metric for row in got.sets} == {
        f"{kind}-reader" for kind in ("precision", "recall", "density", "coverage")
    }
    assert got.sets[0].n_reference == 24
    assert set(got.columns) >= {"object-accuracy"}
    with pytest.raises(DditError, match="psnr: needs pictures of the same names"):
        compare(folders[0], "world:heldout:24:seed1:64px", only=["psnr"])


def test_the_command_prints_and_writes(folders, tmp_path, wide):
    words = ["evaluate", *map(str, folders), "--metric", "psnr", "--out", str(tmp_path / "x.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.exception
    assert "8 of" in result.output
    assert compare(*folders, only=["psnr"]).pictures_hash[:12] in result.output
    result = CliRunner().invoke(app, ["evaluate", *map(str, folders)])
    assert result.exit_code == 0, result.exception
    assert "intervals of 95% each, not corrected" in result.output
    assert "within 0.05" in result.output
    assert set(json.loads((tmp_path / "x.json").read_text())["columns"]) == {"psnr"}


def test_bad_folders(folders, tmp_path):
    ours, theirs = folders
    with pytest.raises(DditError, match="psnr: needs a reference"):
        compare(ours, only=["psnr"])
    lines = tmp_path / "prompts.txt"
    lines.write_text("a red star\n")
    with pytest.raises(DditError, match=r"1 prompts for 8 samples.* '001' has none"):
        compare(ours, theirs, lines)
    (theirs / "003.png").rename(theirs / "009.png")
    with pytest.raises(DditError, match="2 have no partner, the first is '003'"):
        compare(ours, theirs, only=["psnr"])
    assert "2 have no partner" in compare(ours, theirs).skipped["psnr"]
    (ours / "002.txt").unlink()
    with pytest.raises(DditError, match=r"7 samples have a prompt, but .*002.txt is missing"):
        compare(ours)
    (ours / "001.png").write_bytes(b"no picture")
    with pytest.raises(DditError, match=r"001.png cannot be read"):
        picture_folder(ours).check()
    Image.new("RGB", (32, 64)).save(ours / "001.png")
    with pytest.raises(DditError, match=r"001.png is 32 x 64 and 000 is 64 x 64"):
        picture_folder(ours).check()
    with pytest.raises(DditError, match="there is no folder"):
        picture_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DditError, match="holds no pictures"):
        picture_folder(tmp_path / "empty")


@pytest.mark.parametrize("form", ["{}", "{:03d}", "frame_{}", "img{:04d}-base"])
def test_prompts_of_a_file_go_by_the_numbers_in_names(tmp_path, form):
    from ddit_eval.system.pictures import files_in

    texts = [f"prompt {n}" for n in range(1003)]
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(texts))
    for n in range(1003):
        (tmp_path / f"{form.format(n)}.png").touch()
    got = dict(
        zip(names := list(files_in(tmp_path, (".png",))), prompts_of(tmp_path, names, lines), strict=True)
    )
    assert got == {form.format(n): text for n, text in enumerate(texts)}
    names.remove(form.format(7))
    with pytest.raises(DditError, match=r"lines\.txt: there is no sample 7 before '.*8"):
        prompts_of(tmp_path, names, lines)
    with pytest.raises(DditError, match="1003 prompts for 1000 samples, one for each: 'prompt 1000' is left"):
        prompts_of(tmp_path, [form.format(n) for n in range(1000)], lines)


def test_names_that_are_prompts_say_so(tmp_path):
    (tmp_path / "lines.json").write_text(json.dumps(["two cats", "caf\u00e9", "a = b"]))
    names = ["a = b-0", "a = b-1", "caf\u00e9-0", "two cats-0"]
    assert prompts_of(tmp_path, names, tmp_path / "lines.json") == ["a = b", "a = b", "caf\u00e9", "two cats"]


def test_captions_stand_beside_samples_whatever_their_letters(folders):
    ours = folders[0]
    (ours / "000.png").rename(ours / "cafe\u0301.PNG")
    (ours / "000.txt").rename(ours / "caf\u00e9.TXT")
    (ours / "._001.png").write_bytes(b"what a Mac leaves")
    assert prompts_of(ours, list(picture_folder(ours).files), None)[-1].startswith("a")
    (ours / "003.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DditError, match=r"003\.txt, line 1, is not UTF-8"):
        compare(ours)


@pytest.fixture
def films(tmp_path: Path) -> tuple[Path, Path]:
    """Three gifs of a square that moves by a pixel a frame, and the same stood still."""
    for name, pace in (("moving", 1), ("still", 0)):
        (tmp_path / name).mkdir()
        for i in range(3):
            frames = np.full((6, 32, 32, 3), 40, np.uint8)
            for t in range(6):
                frames[t, 8 + i : 20, 4 + pace * t : 14 + pace * t] = 220
            pictures = [Image.fromarray(frame) for frame in frames]
            folder = tmp_path / name / f"{i}"
            folder.mkdir()
            for t, picture in enumerate(pictures):
                picture.save(folder / f"{t}.png")
    return tmp_path / "moving", tmp_path / "still"


def test_folders_of_films(films, tmp_path):
    moving, still = films
    got = compare(moving, still)
    flicker = got.columns["temporal_flickering"]
    # 2 columns of 12 - i rows change by 180 / 255 at each step
    by_hand = [1 - 2 * (12 - i) * 180 / 255 / 32**2 for i in range(3)]
    assert flicker.interval.value == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert flicker.difference.value == pytest.approx(np.mean(by_hand) - 1, abs=1e-6)
    assert got.columns["psnr"].interval.n == 3
    assert got.reference_hash == compare(still).pictures_hash != got.pictures_hash
    assert got.n == 3
    sets = {row.metric: row for row in got.sets}
    assert sets["frechet-reader"].n == sets["frechet-reader"].n_reference == 18  # frames
    assert sets["frechet-reader"].interval.value > 0
    alone = compare(moving)
    assert alone.skipped["psnr"] == "needs a reference folder"
    assert (
        alone.skipped["overall_consistency-clip-world"]
        == "needs prompts: a .txt beside each sample, or one file of lines"
    )
    result = CliRunner().invoke(app, ["evaluate", str(moving), str(still), "--metric", "temporal_flickering"])
    assert result.exit_code == 0, result.exception
    assert "ours - theirs" in result.output


def test_frames_are_resampled_film_by_film(films):
    from ddit_eval.metrics import sets

    (ours, names), (theirs, _) = (opened(folder).as_set() for folder in films)
    assert names == [name for name in "012" for _ in range(6)]
    assert [len(stack) for stack in ours.pictures()] == [len(stack) for stack in ours.pictures()] == [6, 6, 6]
    by_hand = sets.compare(ours, theirs, families=["kid"], groups=names)[0].interval
    found = compare(*films, only=["kid"]).sets[0].interval
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))
    single = sets.compare(ours, theirs, families=["kid"])[0].interval
    assert (single.low, single.high) != pytest.approx((by_hand.low, by_hand.high), rel=0.1)
    world = compare(films[0], "world:heldout:24:seed1:64px", only=["kid"]).sets[0]
    assert world.reference == "world:heldout:24:seed1:64px"


def test_bad_folders_of_films(films):
    moving, still = films
    with pytest.raises(DditError, match="adherence: needs prompts"):
        compare(moving, only=["adherence"])
    with pytest.raises(DditError, match="psnr: needs a reference"):
        compare(moving, only=["psnr"])
    (still / "1").rename(still / "7")
    with pytest.raises(DditError, match="2 have no partner, the first is '1'"):
        compare(moving, still, only=["psnr"])
    with pytest.raises(DditError, match="kid: needs a reference set"):
        compare(moving, only=["kid"])
    with pytest.raises(DditError, match="compare like with like"):
        compare(moving, still / "0")
    got = compare(moving, still, only=["temporal_flickering", "kid"])  # as a set
    assert got.columns["temporal_flickering"].difference is None
    assert got.sets[0].reference_hash == got.reference_hash
    (moving / "2" / "5.png").unlink()
    with pytest.raises(DditError, match=r"1 of 3 films cannot be measured.*most have"):
        compare(moving)
