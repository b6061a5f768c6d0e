"""Films read from gifs, folders and video files."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ddit_eval import metrics
from ddit_eval.errors import DditError
from ddit_eval.metrics.films.frames import film_of, read
from tests.support.films import drive, flat, noise

# Reading.


def pixels(count: int = 4, side: int = 12) -> Tensor:
    """Frames of few colours, which a gif's palette holds exactly."""
    steps = torch.randint(0, 4, (count, 3, side, side), generator=torch.Generator().manual_seed(1))
    return (steps * 85).byte()


def images(frames: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]


def write_gif(path: Path, frames: Tensor, **options: Any) -> Path:
    first, *rest = images(frames)
    first.save(path, save_all=True, append_images=rest, loop=0, **options)
    return path


def test_a_gif_read_back_is_the_tensor(tmp_path: Path) -> None:
    frames = pixels()
    got = read(write_gif(tmp_path / "a.gif", frames, duration=125))
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps == pytest.approx(8.333, abs=0.01)  # gifs count in hundredths of a second: 0.12 s
    assert read(tmp_path / "a.gif", fps=5).fps == 5


def test_a_still_moment_in_a_gif_keeps_its_frames(tmp_path: Path) -> None:
    frames = pixels()[[0, 1, 1, 1, 2, 3]]
    path = write_gif(tmp_path / "a.gif", frames, duration=100)
    with Image.open(path) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]  # the writer merged the equal frames
    got = read(path)
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps == pytest.approx(10)


def test_frames_of_uneven_times_are_repeated_to_an_even_rate(tmp_path: Path) -> None:
    frames = pixels(3)
    got = read(write_gif(tmp_path / "a.gif", frames, duration=[100, 150, 250]))
    assert got.fps == pytest.approx(20)  # 50 ms are the longest step that all are multiples of
    torch.testing.assert_close(got.frames, frames.repeat_interleave(torch.tensor([2, 3, 5]), 0).float() / 255)
    # 24 a second, as hundredths of a second hold it
    got = read(write_gif(tmp_path / "b.gif", pixels(6), duration=[40, 40, 40, 50, 40, 40]))
    assert (len(got.frames), got.fps) == (6, pytest.approx(24))
    write_gif(tmp_path / "c.gif", pixels(2), duration=[10, 655350])
    with pytest.raises(DditError, match=r"c\.gif shows its 2 frames for 10 to 655350 ms, at .* 65536"):
        read(tmp_path / "c.gif")


def test_a_folder_read_back_is_the_tensor_in_the_order_of_numbers(tmp_path: Path) -> None:
    frames = (noise(11, 3, 6, 7) * 255).byte()
    for t, image in enumerate(images(frames)):
        image.save(tmp_path / f"frame{t}.png")  # frame10 comes after frame9, not after frame1
    (tmp_path / "notes.txt").write_text("no frame")
    got = read(tmp_path)
    torch.testing.assert_close(got.frames, frames.float() / 255)
    assert got.fps is None


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DditError, match="is not there"):
        read(tmp_path / "none.gif")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DditError, match="no frames"):
        read(empty)
    images(pixels(1))[0].save(empty / "0.png")
    with pytest.raises(DditError, match="at least 2 frames"):
        read(empty)
    images(pixels(1, side=8))[0].save(empty / "1.png")
    with pytest.raises(DditError, match="differ in size"):
        read(empty)
    (empty / "1.png").write_bytes(b"no picture")
    with pytest.raises(DditError, match=r"1\.png cannot be read"):
        read(empty)
    broken = tmp_path / "broken.gif"
    broken.write_bytes(b"GIF89a")
    with pytest.raises(DditError, match=r"broken\.gif cannot be read"):
        read(broken)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DditError, match=r"\.txt file is no film"):
        read(tmp_path / "a.txt")


def test_film_files_need_a_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ddit_eval.metrics.films import frames

    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(DditError, match="pip install av"):
        read(tmp_path / "a.mp4")


def write_mp4(path: Path, frames: Tensor, rate: int = 12, **options: str) -> Path:
    """Frames (T, 3, H, W) of bytes through PyAV's mpeg4 encoder."""
    import av

    with av.open(str(path), "w", options=options) as film:
        stream = film.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            pixels = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode())
    return path


def test_a_film_file_read_back_is_nearly_the_tensor(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    film = drive(2.0)
    frames = (film.frames * 255).round().byte()
    got = read(write_mp4(tmp_path / "a.mp4", frames))
    assert got.fps == pytest.approx(12)
    assert got.frames.shape == frames.shape
    assert float((got.frames - film.frames).abs().mean()) < 0.03
    # The figures of the file are those of the frames, but for what the codec takes.
    for name in ("temporal_flickering", "motion_smoothness-classical", "subject_consistency-reader"):
        assert metrics.get(name).value(got) == pytest.approx(metrics.get(name).value(film), abs=0.02), name
    assert metrics.get("dynamic_degree-classical").value(got) == metrics.get(
        "dynamic_degree-classical"
    ).value(film)
    still = read(write_mp4(tmp_path / "still.mp4", frames[:1].repeat(6, 1, 1, 1)))
    assert (
        metrics.get("temporal_flickering").value(still)
        > 0.995
        > metrics.get("temporal_flickering").value(got)
    )


def test_one_late_frame_is_no_rate(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    starts = [33 * i + (10 if i > 20 else 0) for i in range(40)]
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=30)
        stream.width, stream.height = 32, 32
        stream.codec_context.time_base = Fraction(1, 1000)
        for start in starts:
            frame = av.VideoFrame.from_ndarray(
                np.full((32, 32, 3), 3 * start % 256, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    got = read(tmp_path / "a.mp4")
    assert len(got.frames) == 40
    assert got.fps == pytest.approx(30, rel=0.03)


def test_a_film_file_that_is_broken_is_named(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    frames = (noise(8, 3, 64, 64) * 255).byte()
    whole = write_mp4(tmp_path / "whole.mp4", frames).read_bytes()
    for name, data in (("empty", b""), ("text", b"no video at all"), ("half", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.mp4").write_bytes(data)
        with pytest.raises(DditError, match=rf"{name}\.mp4 cannot be read as a film"):
            read(tmp_path / f"{name}.mp4")
    # With its index in front, half a file still opens.
    front = write_mp4(tmp_path / "front.mp4", frames, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(front[: len(front) * 6 // 10])
    with pytest.raises(DditError, match=r"cut\.mp4 cannot be read as a film"):
        read(tmp_path / "cut.mp4")
    with pytest.raises(DditError, match=r"one\.mp4: a film needs at least 2 frames"):
        read(write_mp4(tmp_path / "one.mp4", frames[:1]))
    with av.open(str(tmp_path / "sound.mp4"), "w") as film:
        stream = film.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000
        film.mux(stream.encode(sound))
        film.mux(stream.encode())
    with pytest.raises(DditError, match=r"sound\.mp4 .*it holds no video"):
        read(tmp_path / "sound.mp4")
    with av.open(str(tmp_path / "none.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=12)
        stream.width = stream.height = 64
        film.start_encoding()
    with pytest.raises(DditError, match=r"none\.mp4"):
        read(tmp_path / "none.mp4")


def test_a_turned_film_is_upright_and_an_ending_is_kept_to(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    frames = torch.zeros(3, 3, 32, 64)
    frames[:, :, :, :32] = 1  # the left half is light
    path = write_mp4(tmp_path / "a.mp4", (frames * 255).byte())
    data, matrix = path.read_bytes(), bytes.fromhex("00010000" + "00" * 12 + "00010000")
    at = data.index(b"tkhd") + 44
    assert data[at : at + 20] == matrix
    quarter = bytes.fromhex("00000000" + "00010000" + "00000000" + "ffff0000" + "00000000")
    (tmp_path / "b.mp4").write_bytes(data[:at] + quarter + data[at + 20 :])
    got = read(tmp_path / "b.mp4").frames[0]
    assert got.shape == (3, 64, 32)
    assert got[:, :30].mean() > 0.9 > 0.1 > got[:, 34:].mean()  # a quarter clockwise: what was left is above
    (tmp_path / "a.avi").write_bytes(data)
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{path}\n")
    for name in ("a.avi", "list.mp4"):
        with pytest.raises(DditError, match=rf"{name} cannot be read as a film"):
            read(tmp_path / name)


def test_films_larger_than_memory_are_refused_undecoded(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", pixels(4))
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # width and height
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(DditError, match=r"a\.gif .*(exceeds limit|more than 1,073,741,824)"):
        read(tmp_path / "a.gif")
    pytest.importorskip("av", reason="PyAV is not installed")
    path = write_mp4(tmp_path / "a.mp4", (noise(8, 3, 64, 64) * 255).byte())
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 12
    data[at : at + 4] = (10**9).to_bytes(4, "big")  # of frames
    path.write_bytes(data)
    with pytest.raises(DditError, match=r"a\.mp4"):
        read(path)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (torch.zeros(1, 3, 8, 8), "at least 2 frames"),
        (torch.zeros(0, 3, 8, 8), "nothing"),
        (torch.zeros(4, 8, 8, 3), "T, 3, H, W"),
        (torch.zeros(3, 8, 8), "T, 3, H, W"),
        (torch.full((2, 3, 8, 8), 200.0), "span 200"),
        (torch.full((2, 3, 8, 8), float("nan")), "nan"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int32), "int32"),
    ],
)
def test_bad_frames_are_refused(frames: Tensor, says: str) -> None:
    with pytest.raises(DditError, match=says):
        film_of(frames)


def test_bad_rates_are_refused() -> None:
    for fps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DditError, match="frames a second"):
            film_of(flat([0, 1]), fps)
