"""What the report says, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ddit_eval import stats
from ddit_eval.report.blocks import Block, Bullets, Heading, Picture, Table, Text
from ddit_eval.report.controls import EQUAL_TIME, Comparison, signed
from ddit_eval.report.results import Json, Results, coarse_share
from ddit_eval.report.verdict import Verdict, compare_all, compare_orders, orders_line
from ddit_eval.stats import Interval


def document(results: Results, verdict: Verdict, figures: Mapping[str, str]) -> list[Block]:
    """The whole report; its first line is the verdict. `figures`: path by caption, in order."""
    orders = compare_orders(results)
    quality = results.quality
    blocks: list[Block] = [
        Text(verdict.line, strong=True),
        Text(
            f"Profile {quality['profile']}: {quality['model']}, {quality['n']} prompts "
            f"(hash {quality['prompts_hash']}), reference {quality['reference']}. Square brackets are 95 % "
            "bootstrap intervals over prompts, not corrected for the number of comparisons. "
            "Speed-up is measured time; token and FLOP ratios are counts and are no speed-up."
        ),
    ]
    if results.timing is None:
        blocks.append(Text("There is no timing.json: no speed-up is shown. Run `ddit-eval time`."))
    elif note := (results.timing.get("null") or {}).get("note"):
        blocks.append(Text(f"Take the times with care: {note}."))
    blocks += [Heading("Methods"), methods_table(results)]
    pictures: list[Block] = [Picture(path, caption) for caption, path in figures.items()]
    blocks += pictures[:1]
    if remarks := [f"{r['method']}: {r['verdict']}" for r in results.rows if r.get("verdict")]:
        blocks += [Heading("Policies that never or always fired"), Bullets(remarks)]
    blocks += [Heading("DDiT against its controls at equal time"), *_controls(results, verdict)]
    blocks += [Heading("Orders 1, 2 and 3"), *_orders(orders)]
    blocks += [Heading("Speed-up against what the FLOPs allow"), *_realised(results)]
    blocks += [Heading("Difference to the reference, paired"), _differences(results)]
    blocks += [Heading("Figures"), *pictures[1:]] if pictures[1:] else []
    if results.quality.get("damage"):
        blocks += [Heading("Which metric sees which damage"), *_damage(results)]
    blocks += [Heading("How it was measured"), *_conditions(results)]
    return blocks


def methods_table(results: Results, metrics: list[str] | None = None) -> Table:
    """All methods: steps, cost, measured speed-up and quality with intervals."""
    names = metrics or list(results.quality["metrics"])
    head = ["method", "family", "steps", "coarse steps", "tokens ÷", "FLOPs ÷", "speed-up"]
    rows = []
    for row in results.rows:
        speed = results.speed(row)
        rows.append(
            [
                row["method"],
                results.family(row),
                str(row["steps"]),
                f"{100 * coarse_share(row):.0f} %",
                f"{row['token_ratio']:.2f}",
                f"{row['flop_ratio']:.2f}",
                "not timed" if speed is None else show(speed, "x"),
                *(show(_read(row["quality"].get(name)), name) for name in names),
            ]
        )
    arrows = {"higher": " ↑", "lower": " ↓"}
    return Table([*head, *(label(n) + arrows.get(results.direction(n), "") for n in names)], rows)


def _controls(results: Results, verdict: Verdict) -> list[Block]:
    if not verdict.comparisons:
        return [Text("No comparison could be made.")]
    note = (
        "Gain is paired by prompt and positive where DDiT is better. Each control is the row of its kind "
        "with the nearest measured speed-up; fewer steps is interpolated at DDiT's own speed-up where it was "
        f"measured on both sides. Speed-ups within a factor of {EQUAL_TIME:g} count as equal time; "
        "otherwise a comparison decides only if the better one is not slower."
    )
    budget = compare_all(results, [r for r in results.rows if results.family(r) == "budget"])
    standings = ", ".join(f"{kind}: {standing}" for kind, standing in verdict.standings.items())
    statements = Bullets(over_under(verdict.comparisons))
    blocks: list[Block] = [
        Text(note),
        Text(f"Standing of the controls: {standings}."),
        statements,
        _table(verdict.comparisons),
    ]
    if budget:
        blocks += [Text("The budget rule (no part of the verdict):"), Bullets(over_under(budget))]
    return blocks


def over_under(comparisons: list[Comparison]) -> list[str]:
    """One sentence a DDiT row and metric: how far over or under each control it is."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.method, c.metric), []).append(c)
    sentences = []
    for (method, metric), same in groups.items():
        parts = [
            f"{amount(c.gain.value, metric)} {'over' if c.gain.value >= 0 else 'under'} {c.control} "
            f"at {c.control_speed:.2f}x ({c.outcome})"
            for c in same
        ]
        sentences.append(f"{method} at {same[0].speed:.2f}x, {label(metric)}: {', '.join(parts)}.")
    return sentences


def _orders(orders: list[Comparison]) -> list[Block]:
    if not orders:
        return [Text("There are no two rows of different order that fired, so orders cannot be compared.")]
    return [Text(orders_line(orders)), _table(orders)]


def _table(comparisons: list[Comparison]) -> Table:
    rows = [
        [
            c.method,
            f"{c.speed:.2f}x",
            c.control,
            f"{c.control_speed:.2f}x",
            signed(c.gain, c.metric),
            c.outcome,
        ]
        for c in comparisons
    ]
    return Table(["method", "speed-up", "control", "its speed-up", "gain", "outcome"], rows)


def _realised(results: Results) -> list[Block]:
    rows = []
    for row in results.rows:
        speed = results.speed(row)
        if speed is None or row["flop_ratio"] <= 1.01:
            continue
        rows.append(
            [
                row["method"],
                f"{row['flop_ratio']:.2f}",
                show(speed, "x"),
                f"{100 * speed.value / row['flop_ratio']:.0f} %",
                show(
                    _read(((results.timed(row["method"]) or {}).get("speedups") or {}).get("end_to_end")), "x"
                ),
            ]
        )
    if not rows:
        return [Text("No timed method saves FLOPs.")]
    return [Table(["method", "FLOPs ÷", "speed-up", "share reached", "end-to-end speed-up"], rows)]


def _differences(results: Results) -> Table:
    names = [m for m in results.quality["metrics"] if any(m in r["difference"] for r in results.rows)]
    names = [m for m in names if m != "psnr"]  # a difference to an infinite PSNR says nothing
    rows = [
        [row["method"], *(show(_read(row["difference"].get(name)), name, plus=True) for name in names)]
        for row in results.rows
        if row["method"] != results.quality["reference"]
    ]
    return Table(["method", *(label(n) for n in names)], rows)


def _damage(results: Results) -> list[Block]:
    rows = results.quality["damage"]
    damages = list(dict.fromkeys(row["damage"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        before, after = (stats.number_from_json(row[k]) for k in ("before", "after"))
        change = " → ".join(number(v, row["metric"]) for v in (before, after))
        seen = row["sight"]
        cells.setdefault(row["metric"], {})[row["damage"]] = (
            seen if seen == "not asked" else f"{seen}: {change}"
        )
    note = (
        f"Known damage to the {results.reference['n']} pictures of {results.reference['method']}. Seen: the "
        "95 % interval of the paired loss lies above zero; blind: it holds zero; fooled: the damage looks "
        "like a gain. A metric can be blind because too few pictures ask for what it reads."
    )
    table = [[label(m), *(by.get(d, "–") for d in damages)] for m, by in cells.items()]
    return [Text(note), Table(["metric", *damages], table)]


def _conditions(results: Results) -> list[Block]:
    items = []
    if results.timing:
        machine = ", ".join(f"{k} {v}" for k, v in sorted(results.timing["machine"].items()))
        items.append(f"machine: {machine}")
        null = _read(results.timing.get("null"))
        stage = results.timing.get("stage", "denoise").replace("_", " ")
        items.append(f"speed-up: of the stage '{stage}', batch {results.timing.get('batch')}")
        remark = f"; {null.note}" if null and null.note else ""
        items.append(f"the base against itself: {show(null, 'x')}{remark}")
    for name, about in results.quality["metrics"].items():
        rest = [
            f"{k} {about[v]}"
            for k, v in (("network:", "network"), ("N:", "n_note"), ("source:", "source"))
            if about.get(v)
        ]
        better = {"higher": "higher is better", "lower": "lower is better"}
        direction = better.get(about["direction"], "no direction")
        items.append(f"{label(name)}: {direction}; {'; '.join(rest)}")
    return [Bullets(items)]


def _read(data: Json | None) -> Interval | None:
    return Interval.from_json(data) if data else None


def show(interval: Interval | None, what: str, plus: bool = False) -> str:
    """ "1.61x [1.58, 1.64]"; infinite and absent values in words."""
    if interval is None or math.isnan(interval.value):
        return "–"
    if math.isinf(interval.value):
        return "∞" if interval.value > 0 else "-∞"
    digits = 2 if what == "x" else 1 if what == "psnr" else 3
    sign = "+" if plus else ""
    unit = "x" if what == "x" else ""
    value, low, high = (f"{v:{sign}.{digits}f}" for v in (interval.value, interval.low, interval.high))
    text = f"{value}{unit} [{low}, {high}]"
    return f"{text}, {interval.infinite} of {interval.n} infinite" if interval.infinite else text


def number(value: float, metric: str) -> str:
    """A mean in the digits of its metric; an infinity as the sign for it."""
    return "∞" if math.isinf(value) else f"{value:.1f}" if metric == "psnr" else f"{value:.3f}"


def amount(value: float, metric: str) -> str:
    return f"{abs(value):.2f} dB" if metric == "psnr" else f"{abs(value):.3f}"


def label(metric: str) -> str:
    """How a metric is written for people."""
    known: dict[str, Any] = {"psnr": "PSNR to base (dB)", "ssim": "SSIM to base"}
    return str(known.get(metric, metric.replace("-", " ")))
