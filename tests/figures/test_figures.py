"""Figures show the data that they were given: axes, not pixels, are looked at."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from pydantic import ValidationError

from ddit_eval import figures
from ddit_eval.errors import DditError
from ddit_eval.figures.labels import label_points
from ddit_eval.figures.style import OWN_GROUPS, MethodGroup, new_figure, scale_colour, shorten
from tests.support import fake_results

BASE, STEPS = OWN_GROUPS["base"], OWN_GROUPS["fewer steps"]
RULE = MethodGroup("DDiT", "#0072B2", "o")
SCALES = [[1, 1, 2, 4], [1, 2, 2, 1]]


def mesh_of(figure: Figure) -> QuadMesh:
    return next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))


def overlaps(boxes: np.ndarray) -> int:
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in pairs)


def test_schedule_heatmap_colours_each_cell_by_its_scale() -> None:
    figure = figures.schedule_heatmap(SCALES, timesteps=[1000, 750, 500, 250])
    mesh = mesh_of(figure)
    mesh.update_scalarmappable()
    shown = mesh.get_facecolor().reshape(-1, 4)
    wanted = [to_rgba(scale_colour(s)) for row in SCALES for s in row]
    np.testing.assert_allclose(shown, wanted, atol=1 / 255)


def test_schedule_legend_names_every_scale_also_unusual_ones() -> None:
    figure = figures.schedule_heatmap([[1, 3]])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["scale 1 (base)", "scale 2", "scale 3", "scale 4"]
    names = [text.get_text() for text in figures.schedule_heatmap([[1, 0]]).legends[0].get_texts()]
    assert names == ["skipped", "scale 1 (base)", "scale 2", "scale 4"]


def test_one_row_takes_its_prompt_as_title_and_has_no_row_numbers() -> None:
    figure = figures.schedule_heatmap(SCALES[:1], labels=["a red star above a blue square"])
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "a red star above a blue square"
    assert len(axes.get_yticks()) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [1, 2])
def test_any_text_is_drawn_as_it_is_and_in_silence(tmp_path: Path, rows: int) -> None:
    text = "a $x_{$ 中 \x1b[31m \u2028 🌟 50% {} "
    figure = figures.schedule_heatmap(SCALES[:rows], labels=[text + "x" * 10_000] * rows, title=text)
    figures.save(figure, tmp_path / "a")
    assert figure.axes[0].get_title(loc="left") == text
    assert matplotlib.image.imread(tmp_path / "a.png").shape[0] < 1000


def test_rows_of_different_length_leave_the_rest_empty() -> None:
    values = np.ma.masked_invalid(mesh_of(figures.schedule_heatmap([[1, 2, 4], [1]])).get_array()).reshape(
        2, 3
    )
    assert values.mask.tolist() == [[False] * 3, [False, True, True]]


def test_an_empty_trace_is_an_error() -> None:
    with pytest.raises(DditError, match="empty"):
        figures.schedule_heatmap([])


def test_signal_border_runs_between_the_cells_on_both_sides_of_tau() -> None:
    figure = figures.signal_heatmap([[None, 4.0, 1.0, 1.0]], tau=2.0)
    lines = next(c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    # Between steps 1 (4.0) and 2 (1.0), and nowhere else: a missing value has no border.
    assert [segment.tolist() for segment in lines.get_segments()] == [[[2.0, 0.0], [2.0, 1.0]]]


def test_a_signal_that_is_nowhere_positive_still_draws() -> None:
    assert figures.signal_heatmap([[None, None]], tau=0.1).axes


def points() -> list[figures.Point]:
    inf = (float("inf"),) * 3
    return [
        figures.Point("base", BASE, (1, 1, 1), inf),
        figures.Point("steps-12", STEPS, (1.9, 1.85, 1.95), (40, 39, 41)),
        figures.Point("steps-18", STEPS, (1.3, 1.28, 1.33), (46, 45, 47)),
        figures.Point("ddit-o3", RULE, (1.6, 1.5, 1.7), (26, 25, 27)),
    ]


def test_speed_quality_places_points_and_lifts_infinity_above_all_else() -> None:
    figure = figures.speed_quality(points(), null=(1.0, 0.99, 1.01))
    axes = figure.axes[0]
    at = {line.get_gid(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_gid()}
    assert at["ddit-o3"] == (1.6, 26)
    assert at["base"][0] == 1
    assert at["base"][1] > 47
    assert "∞" in [text.get_text() for text in axes.texts]
    assert {p.label for p in points()} <= {text.get_text() for text in axes.texts}


def test_speed_quality_turns_round_where_lower_is_better() -> None:
    rows = [
        figures.Point("a", RULE, (1, 1, 1), (0.1, 0.1, 0.1)),
        figures.Point("b", RULE, (2, 2, 2), (0.2, 0.2, 0.2)),
    ]
    low, high = figures.speed_quality(rows, direction="lower").axes[0].get_ylim()
    assert low > high


def test_speed_quality_refuses_nothing() -> None:
    with pytest.raises(DditError, match="at least one method"):
        figures.speed_quality([])


def test_labels_do_not_cover_one_another() -> None:
    axes = new_figure(7.0, 4.0).subplots()
    rng = np.random.default_rng(0)
    places = [tuple(p) for p in rng.uniform(0.3, 0.6, (16, 2))]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    boxes = label_points(axes, places, [f"method-{i}" for i in range(16)])
    assert overlaps(boxes) == 0


def test_distillation_error_draws_each_row_and_the_targets() -> None:
    data = fake_results.distillation()
    axes = figures.distillation_error(data).axes[0]
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert all(list(row.error) in drawn for row in data.rows)
    assert [0.05, 0.05] in drawn
    assert axes.get_yscale() == "log"


def test_distillation_error_draws_a_panel_a_side() -> None:
    data = fake_results.distillation()
    rows = [row.plain() | {"side": side} for side in (128, 64) for row in data.rows]
    rows[0]["error"] = [0.9] * 8
    small, large = figures.distillation_error(fake_results.distillation(rows=rows)).axes
    assert (small.get_title(), large.get_title()) == ("64 px", "128 px")
    drawn = [[list(line.get_ydata()) for line in axes.lines] for axes in (small, large)]
    assert [0.9] * 8 not in drawn[0]
    assert [0.9] * 8 in drawn[1]


def test_a_row_that_is_short_is_named() -> None:
    row = fake_results.distillation().rows[1]
    short = row.model_copy(update={"error": row.error[:-1]})
    with pytest.raises(ValidationError, match=r"scale 2 \(trained\) has 7 errors for 8"):
        fake_results.distillation(rows=[short.plain()])


def test_pareto_front_joins_the_front_in_order() -> None:
    trials = [figures.Trial(2, 5, True, "b"), figures.Trial(1, 3, True, "a"), figures.Trial(2, 1, False)]
    lines = figures.pareto_front(trials).axes[0].lines
    front = next(line for line in lines if line.get_label() == "Pareto front")
    assert list(front.get_xdata()) == [1, 2]


def test_a_clip_is_shown_by_its_first_frame(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "clip.png", save_all=True, append_images=[second], duration=125)
    figure = figures.picture_grid([[tmp_path / "clip.png"]], columns=["base"])
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    np.testing.assert_array_equal(shown[0, 0], [255, 0, 0])


def test_picture_grid_shows_base_first_and_refuses_ragged_rows() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    figure = figures.picture_grid([[black, white]], columns=["base", "ddit"], rows=["a red star"])
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown[0], black)
    np.testing.assert_array_equal(shown[1], white)
    noted = figures.picture_grid([[black] * 8], columns=["base"] * 8, notes=["4.80× FLOPs, 26.7 dB"] * 8)
    noted.canvas.draw()
    boxes = [text.get_window_extent() for text in noted.texts if "dB" in text.get_text()]
    assert len(boxes) == 8
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    with pytest.raises(DditError, match="1 pictures for 2 columns"):
        figures.picture_grid([[black]], columns=["base", "ddit"])


def test_time_per_step_stacks_the_scales_to_the_mean_in_milliseconds() -> None:
    times = figures.StepTimes("ddit", [{1: 0.3}, {1: 0.15, 4: 0.05}])
    bars = figures.time_per_step([times]).axes[0].patches
    tops = {bar.get_x() + bar.get_width() / 2: 0.0 for bar in bars}
    for bar in bars:
        tops[bar.get_x() + bar.get_width() / 2] += bar.get_height()
    np.testing.assert_allclose(list(tops.values()), [300, 200])
    assert [round(bar.get_height()) for bar in bars] == [300, 150, 0, 50]
    figure = figures.time_per_step([figures.StepTimes("skip", [{1: 0.3}, {0: 0.01}])])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["skipped", "scale 1 (base)"]


def test_time_per_step_wants_steps() -> None:
    with pytest.raises(DditError, match="ddit has no timed steps"):
        figures.time_per_step([figures.StepTimes("ddit", [])])


def test_saving_twice_gives_the_same_bytes_and_keeps_dots_in_names(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for folder in ("a", "b"):
        written = figures.save(figures.schedule_heatmap(SCALES), tmp_path / folder / "tau-0.5")
        assert written.name == "tau-0.5.png"
    assert (tmp_path / "a" / written.name).read_bytes() == written.read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_shorten() -> None:
    assert shorten("a red star, a blue square", 12) == "a red star…"
    assert shorten("short", 12) == "short"
