"""What the report says, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ddit_eval import stats
from ddit_eval.judging.frontier import study_counts, study_rows
from ddit_eval.judging.results import Json, Results, coarse_share
from ddit_eval.judging.verdict import Verdict, compare_orders
from ddit_eval.judging.wording import label, number, read, show
from ddit_eval.report.blocks import Block, Bullets, Code, Folded, Heading, Picture, Table, Text, Viewer
from ddit_eval.report.evidence import claims, controls, kept_blocks, orders_blocks
from ddit_eval.report.oracle_blocks import oracle_blocks
from ddit_eval.report.provenance import Provenance
from ddit_eval.report.region_blocks import region_blocks

if TYPE_CHECKING:
    from ddit_eval.report.page.gallery import Gallery


def document(
    results: Results,
    verdict: Verdict,
    figures: Mapping[str, str],
    gallery: Gallery | None = None,
    provenance: Provenance | None = None,
) -> list[Block]:
    """The whole report; its first line is the verdict. `figures`: path by caption, in order. `gallery`: the
    pictures to compare, `provenance`: what all was made with; both may be missing."""
    orders = compare_orders(results)
    quality = results.quality
    blocks: list[Block] = [
        Text(verdict.line, strong=True),
        Text(
            f"Profile {quality['profile']}: {quality['model']}, {quality['n']} prompts "
            f"(hash {quality['prompts_hash']}), reference {quality['reference']}. Square brackets are 95 % "
            "bootstrap intervals over prompts, not corrected for the number of comparisons; the p-values of "
            "a table are, after Holm. "
            "Speed-up is measured time; token and FLOP ratios are counts and are no speed-up."
        ),
    ]
    if results.timing is None:
        blocks.append(Text("There is no timing.json: no speed-up is shown. Run `ddit-eval time`."))
    elif note := (results.timing.get("null") or {}).get("note"):
        blocks.append(Text(f"Take the times with care: {note}."))
    pictures = [Picture(path, caption) for caption, path in figures.items()]
    tradeoff, still, traces, others = (
        [p for p in pictures if _kind(p) == kind] for kind in ("tradeoff", "pictures", "traces", "other")
    )
    blocks += [Heading("Speed against quality"), *tradeoff] if tradeoff else []
    if results.study:
        blocks += _study(results.study)
    if results.oracle and results.oracle.get("rows"):
        blocks += oracle_blocks(results.oracle)
    blocks += [Heading("Methods"), methods_table(results)]
    if remarks := [f"{r['method']}: {r['verdict']}" for r in results.rows if r.get("verdict")]:
        blocks += [Text("Policies that never or always fired:"), Bullets(remarks)]
    blocks += [Heading("Pictures"), Viewer(gallery, next(iter(still), None))]
    blocks += [Heading("The paper's claims"), *claims(results, verdict, orders)]
    blocks += [Heading("DDiT against its controls at equal time"), *controls(results, verdict)]
    blocks += [Heading("Orders 1, 2 and 3"), *orders_blocks(orders)]
    if regions := region_blocks(results):
        blocks += [Heading("Regions"), *regions]
    blocks += [Heading("Is the quality kept?"), *kept_blocks(verdict.kept)]
    blocks += [Folded("Difference to the reference on every metric, paired", [_differences(results)])]
    if quality.get("sets"):
        blocks += [Folded("Distances of the sets of pictures to reference pictures", _sets(quality))]
    blocks += [Heading("Schedules and signals"), *_trace_blocks(traces)] if traces else []
    blocks += [Heading("Where the time goes"), *_realised(results)]
    blocks += [Folded("Figures of time and training", others)] if others else []
    if results.quality.get("damage"):
        blocks += [Heading("Which metric sees which damage"), *_damage(results)]
    blocks += [Heading("How it was measured"), *_conditions(results)]
    if provenance is not None:
        blocks += [Heading("Provenance"), *_provenance(provenance, quality)]
    return blocks


def _sets(quality: Json) -> list[Block]:
    """Set metrics, each with its paired difference to the reference method."""
    rows = quality["sets"]
    names = list(dict.fromkeys(row["metric"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        text = show(read(row["interval"]), row["metric"])
        if row.get("difference"):
            text += f"; difference {show(read(row['difference']), row['metric'], plus=True)}"
        cells.setdefault(row["method"], {})[row["metric"]] = text
    first = rows[0]
    networks = " and ".join(dict.fromkeys(row["network"] for row in rows))
    better = {
        way: ", ".join(dict.fromkeys(row["metric"] for row in rows if row["direction"] == way))
        for way in ("lower", "higher")
    }
    ways = "; ".join(f"{way} is better for {which}" for way, which in better.items() if which)
    note = (
        f"{first['n']} pictures a method against {first['n_reference']} of {first['reference']} (hash "
        f"{first['reference_hash']}), network {networks}; {ways}. Differences are paired with "
        f"{quality['reference']}."
    )
    warnings = list(dict.fromkeys(w for row in rows for w in row["warnings"]))
    table = [[method, *(by.get(name, "–") for name in names)] for method, by in cells.items()]
    return [Text(note), *([Bullets(warnings)] if warnings else []), Table(["method", *names], table)]


def _study(study: Json) -> list[Block]:
    """How the study ended, and its front on prompts that it was not tuned on."""
    n = study_counts(study)
    text = (
        f"The study: {n['trials']} trials, {n['complete']} complete, {n['stopped']} stopped early, "
        f"{n['infeasible']} infeasible; {n['front']} on the front."
    )
    last = study["objectives"][-1]
    metric = last["name"] if isinstance(last, dict) else str(last)
    rows = [
        [
            str(row["schedule"]),
            f"{100 * row['cost']['heldout'].value:.0f} %",
            show(row["quality"]["tuned"], metric),
            show(row["quality"]["heldout"], metric),
            "yes" if row["within"] else "no",
            "yes" if row["stands"] else "no",
        ]
        for row in study_rows(study)
    ]
    if not rows:
        return [Text(text)]
    head = [
        "schedule",
        "cost",
        f"{label(metric)}, tuned",
        "held out",
        "tuned value inside",
        "still on the front",
    ]
    return [Text(text), Folded("The study's front on held-out prompts", [Table(head, rows)])]


def _kind(picture: Picture) -> str:
    """Where in the report a figure stands, by its file's name."""
    name = picture.path.rsplit("/", 1)[-1]
    if name.startswith(("speed-quality", "study", "oracle")):
        return "tradeoff"
    if name.startswith(("schedule-", "signal-")):
        return "traces"
    return "pictures" if name.startswith("pictures") else "other"


def _trace_blocks(pictures: list[Picture]) -> list[Block]:
    """Two figures a method, the first method's in sight and the others' on demand."""
    names = [p.path.rsplit("/", 1)[-1].partition("-")[2].removesuffix(".png") for p in pictures]
    methods = list(dict.fromkeys(names))
    note = (
        "Each row is a prompt, each column a step. A step is coarse where the signal of its scale lies below "
        "tau, whose border is drawn."
    )
    by_method = {m: [p for p, n in zip(pictures, names, strict=True) if n == m] for m in methods}
    return [Text(note), *(Folded(m, same) for m, same in by_method.items())]


def _provenance(made: Provenance, quality: Json) -> list[Block]:
    dirty = ", with changes that are not committed" if made.dirty else ""
    items = [
        f"code: ddit-eval {made.version}, "
        + (f"commit {made.commit[:12]}{dirty}" if made.commit else "not in a git checkout"),
        f"prompts: hash {quality['prompts_hash']}, {quality['n']} of them",
        *(
            made.weights
            or ["weights: no records are beside these results, so their hashes are not known here"]
        ),
        "libraries where the report was made: " + ", ".join(f"{k} {v}" for k, v in made.libraries.items()),
    ]
    yaml = [Folded("The experiment's parameters", [Code(made.experiment)])] if made.experiment else []
    return [Bullets(items), *yaml]


def methods_table(
    results: Results, metrics: list[str] | None = None, methods: list[str] | None = None
) -> Table:
    """All methods, or those named: steps, cost, measured speed-up and quality with intervals."""
    names = metrics or list(results.quality["metrics"])
    head = ["method", "family", "steps", "coarse steps", "tokens ÷", "FLOPs ÷", "speed-up"]
    rows = []
    for row in results.rows:
        if methods is not None and row["method"] not in methods:
            continue
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
                *(show(read(row["quality"].get(name)), name) for name in names),
            ]
        )
    arrows = {"higher": " ↑", "lower": " ↓"}
    return Table([*head, *(label(n) + arrows.get(results.direction(n), "") for n in names)], rows)


def _realised(results: Results) -> list[Block]:
    rows = []
    for row in results.rows:
        speed = results.speed(row)
        if speed is None or row["flop_ratio"] <= 1.01:
            continue
        seconds = (results.timed(row["method"]) or {}).get("seconds", {})
        rows.append(
            [
                row["method"],
                f"{row['flop_ratio']:.2f}",
                show(speed, "x"),
                " / ".join(f"{seconds[k]:.3f}" for k in ("p50", "p95") if k in seconds),
                f"{100 * speed.value / row['flop_ratio']:.0f} %",
                show(
                    read(((results.timed(row["method"]) or {}).get("speedups") or {}).get("end_to_end")), "x"
                ),
            ]
        )
    if not rows:
        return [Text("No timed method saves FLOPs.")]
    return [
        Table(["method", "FLOPs ÷", "speed-up", "p50 / p95 s", "share reached", "end-to-end speed-up"], rows)
    ]


def _differences(results: Results) -> Table:
    names = [m for m in results.quality["metrics"] if any(m in r["difference"] for r in results.rows)]
    names = [m for m in names if m != "psnr"]  # a difference to an infinite PSNR says nothing
    rows = [
        [row["method"], *(show(read(row["difference"].get(name)), name, plus=True) for name in names)]
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
        "like a gain. A metric can be blind because too few pictures ask for what it reads. Metrics of "
        f"videos are tried on moving scenes of the captioned world. {stats.note_of_many(len(rows)) or ''}"
    )
    table = [[label(m), *(by.get(d, "–") for d in damages)] for m, by in cells.items()]
    return [Text(note), Table(["metric", *damages], table)]


def _conditions(results: Results) -> list[Block]:
    items = []
    if results.timing:
        machine = ", ".join(f"{k} {v}" for k, v in sorted(results.timing["machine"].items()))
        items.append(f"machine: {machine}")
        null = read(results.timing.get("null"))
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
