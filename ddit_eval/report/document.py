"""What the report says, block by block: first what is decided, the rest for the page alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddit_eval import stats
from ddit_eval.judging.advice import reached, sentences
from ddit_eval.judging.frontier import confirmed_points, schedule_of, study_counts
from ddit_eval.judging.gap import gap_line
from ddit_eval.judging.paper_claims import judge_claims
from ddit_eval.judging.results import Results
from ddit_eval.judging.row_words import in_words
from ddit_eval.judging.verdict import Verdict, compare_orders, firing
from ddit_eval.judging.wording import (
    counted,
    label,
    listed,
    number,
    show,
    times,
    written,
)
from ddit_eval.report.blocks import (
    Block,
    Bullets,
    Claims,
    Code,
    Folded,
    Heading,
    Picture,
    Table,
    Text,
    Viewer,
    matrix,
)
from ddit_eval.report.gallery import Gallery
from ddit_eval.report.judged import compared_blocks, dynamic_blocks, kept_blocks
from ddit_eval.report.provenance import Provenance
from ddit_eval.schema import Oracle, Quality
from ddit_eval.schema.quality import Column
from ddit_eval.stats import ALPHA

ARROWS = {"higher": "↑", "lower": "↓"}
CLAIMS = (
    "Judged by code from the results of this profile alone: another model at another size, so a claim "
    "that is not reproduced here is not refuted there."
)


def document(
    results: Results,
    verdict: Verdict,
    figures: Mapping[str, str],
    gallery: Gallery | None = None,
    provenance: Provenance | None = None,
) -> list[Block]:
    """The whole report: the best ways found, the verdict, the paper's claims, the rest. `figures`:
    path by caption, in order. `gallery`: the pictures to compare, `provenance`: what all was made with; both
    may be missing."""
    orders = compare_orders(results)
    quality = results.quality
    advice = sentences(results.frontier, quality.metrics) if results.frontier else []
    blocks: list[Block] = [
        *(Text(sentence, strong=True) for sentence in advice),
        Text(verdict.line, strong=True),
        Text(
            f"Profile {quality.profile}: {quality.model}, {quality.n} prompts (hash {quality.prompts_hash}), "
            f"reference {quality.reference}. Square brackets are 95 % bootstrap intervals over prompts. "
            f"Better, worse, kept and lost are said where p, after Holm's adjustment, is below {ALPHA:g}. "
            "Speed-up is measured time; token and FLOP ratios are counts and are no speed-up."
        ),
    ]
    if results.timing is None:
        blocks.append(Text("There is no timing.json: no speed-up is shown. Run `ddit-eval time`."))
    elif results.bad_clock:
        blocks.append(Text(f"No speed-up is shown: {results.bad_clock}. Run `ddit-eval time` again."))
    kinds = ("frontier", "tradeoff", "pictures", "traces", "films", "other")
    shown: dict[str, list[Picture]] = {kind: [] for kind in kinds}
    for caption, path in figures.items():
        shown[_kind(path)].append(Picture(path, caption))
    if shown["frontier"]:
        blocks += [Heading("The best way to each speed-up"), *shown["frontier"], *_frontier(results)]
    blocks += [Heading("The paper's claims"), Text(CLAIMS), Claims(judge_claims(results, verdict, orders))]
    if shown["tradeoff"]:
        blocks += [Heading("Speed against quality"), *shown["tradeoff"]]
    blocks += [Heading("Is the quality kept?"), *kept_blocks(results, verdict.kept)]
    blocks += [Heading(f"What is decided {results.equally}"), *compared_blocks(results, verdict, orders)]
    blocks += [Heading("Methods"), methods_table(results, results.deciding()), *_more_of_methods(results)]
    if firing(results):
        blocks += [Heading("Static or dynamic?"), *dynamic_blocks(results)]
    blocks += _study(results) + _oracle(results.oracle)
    still = next(iter(shown["pictures"]), None)
    blocks += [Heading("Pictures"), Viewer(gallery, still), *_films(shown["films"])]
    blocks += [Heading("Time and training"), *shown["other"], *_realised(results), *_traces(shown["traces"])]
    blocks += [Heading("How it was measured"), *_conditions(results)]
    if provenance is not None:
        blocks += [Heading("Provenance"), *_provenance(provenance, quality)]
    return blocks


def _kind(path: str) -> str:
    """Where in the report a figure stands, by its file's name."""
    folder, _, name = path.rpartition("/")
    if folder == "films" or name.startswith("pictures"):
        return "films" if folder == "films" else "pictures"
    if name.startswith("frontier"):
        return "frontier"
    if name.startswith(("speed-quality", "study", "oracle")):
        return "tradeoff"
    return "traces" if name.startswith(("schedule-", "signal-")) else "other"


def methods_table(results: Results, metrics: Sequence[str], methods: Sequence[str] | None = None) -> Table:
    """All methods, or those named: steps, cost, measured speed-up and quality with intervals."""
    columns = {m: results.column(m) for m in metrics}
    head = ["method", "family", "steps", "coarse steps", "tokens ÷", "FLOPs ÷", "speed-up"]
    rows = [
        [
            row.method,
            results.family(row),
            str(row.steps),
            f"{100 * row.coarse_share:.0f} %",
            f"{row.token_ratio:.2f}",
            f"{row.flop_ratio:.2f}",
            "bad clock"
            if results.bad_clock
            else times(speed)
            if (speed := results.speed(row))
            else "not timed",
            *(show(row.quality.get(name), column) for name, column in columns.items()),
        ]
        for row in results.rows
        if methods is None or row.method in methods
    ]
    return Table([*head, *(f"{label(c)} {ARROWS[c.direction]}" for c in columns.values())], rows)


def _more_of_methods(results: Results) -> list[Block]:
    blocks: list[Block] = []
    if remarks := [f"{row.method}: {row.verdict}" for row in results.rows if row.verdict]:
        blocks += [Text("Policies that never or always fired:"), Bullets(remarks)]
    quality = results.quality
    every = {m: c for m, c in quality.metrics.items() if m not in results.deciding()}
    if every:
        cells = {(r.method, m): show(r.quality.get(m), c) for r in results.rows for m, c in every.items()}
        heads = {m: f"{label(c)} {ARROWS[c.direction]}" for m, c in every.items()}
        titles = listed([c.title for c in every.values()])
        blocks.append(Text(f"Measured too, shown in report.html: {titles}."))
        blocks.append(Folded("The other metrics", [matrix("method", heads, cells, {})]))
    if quality.sets or quality.skipped:
        blocks.append(Folded("Distances of the sets of pictures to reference pictures", _sets(quality)))
    if quality.damage:
        blocks.append(Folded("Which metric sees which damage", _damage(quality)))
    return blocks


def _sets(quality: Quality) -> list[Block]:
    """Set metrics, each with its paired difference to the reference method."""
    cells: dict[tuple[str, str], str] = {}
    for row in quality.sets:
        text = written(row.interval, 3)
        if row.difference:
            text += f"; difference {written(row.difference, 3, '+')}"
        cells[row.method, row.metric] = text
    missing = [f"{name} left out: {why}" for name, why in quality.skipped.items()]
    if not quality.sets:
        return [Bullets(missing)]
    first = quality.sets[0]
    networks = " and ".join(dict.fromkeys(row.network for row in quality.sets))
    note = (
        f"{first.n} pictures a method against {first.n_reference} of {first.reference} (hash "
        f"{first.reference_hash}), network {networks}. Differences are paired with {quality.reference}."
    )
    heads = {row.metric: f"{row.metric} {ARROWS[row.direction]}" for row in quality.sets}
    warnings = list(dict.fromkeys(w for row in quality.sets for w in row.warnings))
    return [Text(note), Bullets([*warnings, *missing]), matrix("method", heads, cells, {})]


def _damage(quality: Quality) -> list[Block]:
    cells: dict[tuple[str, str], str] = {}
    for row in quality.damage:
        digits = quality.metrics[row.metric].digits if row.metric in quality.metrics else 3
        change = " → ".join(number(value, digits) for value in (row.before, row.after))
        said = row.sight if row.sight == "not asked" else f"{row.sight}: {change}"
        cells[row.metric, row.damage] = said
    note = (
        f"Known damage to the {quality.n} pictures of {quality.reference}. Seen: the 95 % interval of the "
        "paired loss lies above zero; blind: it holds zero; fooled: the damage looks like a gain. A metric "
        "can be blind because too few pictures ask for what it reads. Metrics of videos are tried on moving "
        f"scenes of the captioned world. {stats.note_of_many(len(quality.damage)) or ''}"
    )
    damages = {row.damage: row.damage for row in quality.damage}
    titles = {m: label(column) for m, column in quality.metrics.items()}
    return [Text(note), matrix("metric", damages, cells, titles)]


def _study(results: Results) -> list[Block]:
    """How the study ended, and its front on prompts that it was not tuned on."""
    study = results.study
    if study is None:
        return []
    n = study_counts(study)
    text = (
        f"{counted(n['trials'], 'trial')}, {n['complete']} complete, {n['stopped']} stopped early, "
        f"{n['infeasible']} infeasible; {n['front']} on the front."
    )
    metric = study.objectives[-1].name
    column = results.quality.metrics.get(metric)
    digits, title = (column.digits, label(column)) if column else (3, metric.replace("-", " "))
    rows = [
        [
            schedule_of(point.trial),
            f"{100 * point.confirmed.heldout.cost.value:.0f} %",
            written(point.confirmed.tuned.quality, digits),
            written(point.confirmed.heldout.quality, digits),
            "yes" if point.within else "no",
            "yes" if point.confirmed.stands else "no",
            *(
                []
                if point.confirmed.meets_floor is None
                else ["yes" if point.confirmed.meets_floor else "no"]
            ),
        ]
        for point in confirmed_points(study)
    ]
    head = ["schedule", "cost", f"{title}, tuned", "held out", "tuned value inside", "still on the front"]
    if any(point.meets_floor is not None for point in study.confirmed):
        head.append("meets the floor on held-out prompts")
    return [Heading("The study"), Text(text), *([Table(head, rows)] if rows else [])]


def _oracle(oracle: Oracle | None) -> list[Block]:
    """What the rules close of its lead, and on the page every row of oracle.json."""
    if oracle is None or not oracle.rows:
        return []
    note = (
        f"Of the first {oracle.n} prompts, {oracle.steps} steps. The oracle has seen what each coarse step "
        "does to the picture before it chooses: a bound for rules, not a rule. A share is 0 % for a way as "
        "good as the fixed schedules at its cost and 100 % for one as good as the oracle; one whose interval "
        "leaves these bounds is not determined."
    )
    rows = [[row.name, f"{100 * row.cost:.0f} %", written(row.psnr, 1)] for row in oracle.rows]
    table = Table(["schedule", "cost, of the base's FLOPs", "PSNR to base (dB)"], rows)
    return [Heading("The oracle"), Text(gap_line(oracle)), Text(note), Folded("Every schedule", [table])]


def _frontier(results: Results) -> list[Block]:
    """How the ways were found, and each with its numbers."""
    data = results.frontier
    assert data is not None
    trials = ", ".join(f"{name} {count}" for name, count in data.trials.items())
    note = (
        f"Searched by {data.metric} on {counted(data.tuning, 'prompt')}, told here of {data.heldout} others. "
        f"Trials: {trials}; ways with and without coarse patches get equally many."
    )
    metrics = {m: c for m, c in results.quality.metrics.items() if m == data.metric or c.role == "adherence"}
    rows = []
    for target in data.targets:
        ways = {"best": target.best, "no coarse patch": target.best_without_coarse, "DDiT": target.best_ddit}
        for kind, way in ways.items():
            if way:
                cells = [show(way.quality.get(m), c) for m, c in metrics.items()]
                ratio = f"{way.flop_ratio:.2f}"
                row = [way.name, kind, in_words(way.row, way.of.steps), ratio, reached(way), *cells]
                rows.append([f"{target.speed_up:g}x", *row])
    head = ["target", "way", "best of", "what it is", "FLOPs ÷", "speed-up", *map(label, metrics.values())]
    return [Text(note), Folded("Every way", [Table(head, rows)])]


def _films(pictures: Sequence[Picture]) -> list[Block]:
    return [Folded("Patch sizes, step by step", pictures)] if pictures else []


def _traces(pictures: Sequence[Picture]) -> list[Block]:
    note = (
        "Each row is a prompt, each column a step. A step is coarse where the signal of its scale lies below "
        "tau, whose border is drawn."
    )
    return [Folded("Schedules and signals", [Text(note), *pictures])] if pictures else []


def _realised(results: Results) -> list[Block]:
    """What of the saved FLOPs becomes time."""
    rows = []
    for row in results.rows:
        timed = results.timed(row.method)
        if timed is None or row.flop_ratio <= 1.01:
            continue
        rows.append(
            [
                row.method,
                f"{row.flop_ratio:.2f}",
                times(timed.speedup),
                f"{timed.seconds.p50:.3f} / {timed.seconds.p95:.3f}",
                f"{100 * timed.speedup.value / row.flop_ratio:.0f} %",
                times(timed.speedups.get("end_to_end")),
            ]
        )
    head = ["method", "FLOPs ÷", "speed-up", "p50 / p95 s", "share reached", "end-to-end speed-up"]
    return [Folded("Where the time goes", [Table(head, rows)])] if rows else []


def _conditions(results: Results) -> list[Block]:
    items = []
    if timing := results.timing:
        machine = ", ".join(f"{k} {v}" for k, v in sorted(timing.machine.plain().items()))
        items.append(f"machine: {machine}")
        items.append(f"speed-up: of the stage '{timing.stage.replace('_', ' ')}', batch {timing.batch}")
        items.append(f"the base against itself: {times(timing.null)}")
    metrics = [f"{label(column)}: {_about(column)}" for column in results.quality.metrics.values()]
    return [*([Bullets(items)] if items else []), Folded("The metrics", [Bullets(metrics)])]


def _about(column: Column) -> str:
    parts = {"network": column.network, "N": column.n_note, "source": column.source}
    return "; ".join([f"{column.direction} is better", *(f"{k}: {v}" for k, v in parts.items() if v)])


def _provenance(made: Provenance, quality: Quality) -> list[Block]:
    dirty = ", with changes that are not committed" if made.dirty else ""
    code = f"commit {made.commit[:12]}{dirty}" if made.commit else "not in a checkout"
    items = [
        f"code: ddit-eval {made.version}, {code}",
        f"prompts: hash {quality.prompts_hash}, {quality.n} of them",
        *(made.weights or ["weights: not known here, there are no records beside these results"]),
        "libraries where the report was made: " + ", ".join(f"{k} {v}" for k, v in made.libraries.items()),
    ]
    yaml = [Folded("The experiment's parameters", [Code(made.experiment)])] if made.experiment else []
    return [Bullets(items), *yaml]
