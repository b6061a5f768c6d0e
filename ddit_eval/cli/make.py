"""Commands that make something: pictures from a prompt, an adapter, lists of models and metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddit_eval.cli.options import AdapterName, Model, PromptFile, Side
from ddit_eval.cli.show import say
from ddit_eval.errors import DditError
from ddit_eval.system.progress import progress, stdout
from ddit_eval.system.quiet import quiet_libraries

if TYPE_CHECKING:
    from ddit_eval.experiment.prompts import Prompt


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help='What to draw, e.g. "a red star above a blue square".')
    ] = None,
    file: PromptFile = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out"),
    model: Model = "mini-flux",
    adapter: AdapterName = None,
    tau: Annotated[
        float | None, typer.Option(help="Threshold, 0.01: larger is faster and further from the base model.")
    ] = None,
    rho: Annotated[float | None, typer.Option(help="Percentile over patches, 0 to 1; 0.4.")] = None,
    order: Annotated[int | None, typer.Option(help="Order of the finite difference; 3.")] = None,
    policy: Annotated[
        str, typer.Option(help='A kind, or with its values: "{kind: coarse-first, steps: 12, scale: 2}".')
    ] = "threshold",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 24,
    side: Side = None,
    frames: Annotated[int | None, typer.Option(help="Of a clip; by default the model's own.", min=1)] = None,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 3.5,
    seed: Annotated[int, typer.Option(help="Decides the noise, with the prompt and its number.")] = 0,
) -> None:
    """Draw a prompt twice, by the base model and with dynamic patches, and show the schedule.

    Writes NUMBER.png, NUMBER-base.png and schedule.png (prompts x steps, the colour is the scale); a video
    model's clips are NUMBER.mp4 where PyAV is installed, else NUMBER.gif.

    Examples:

        ddit-eval generate "a red star above a blue square" --tau 0.02

        ddit-eval generate --file prompts.txt --policy "{kind: fixed, scale: 2}" --out coarse

        ddit-eval generate "a cat" --model FLUX.1-dev --adapter my-adapter --tau 0.001 --steps 50

        ddit-eval generate "a cat runs" --model Wan2.1-T2V-1.3B --adapter my-wan-adapter --frames 33
    """
    from ddit_eval.experiment.config import parse_experiment
    from ddit_eval.experiment.prompts import prompts_of
    from ddit_eval.system.prompts import read_prompts
    from ddit_eval.system.text import check_prompt

    if (prompt is None) == (file is None):
        raise DditError('give a prompt ("a red star") or --file FILE, one of the two')
    texts = read_prompts(file) if file else [check_prompt(prompt or "", "the prompt")]
    chosen = _flow(policy)
    given = {k: v for k, v in (("tau", tau), ("rho", rho), ("order", order)) if v is not None}
    if chosen == {"kind": "threshold"}:
        chosen |= {"tau": 0.01} | given
    elif given:
        raise DditError(f"--{min(given)} is of the threshold rule alone; write its value into --policy")
    experiment = parse_experiment(
        {
            "model": model, "adapter": adapter or model, "side": side, "frames": frames, "steps": steps,
            "guidance_scale": guidance,
            "methods": [{"name": "base"}, {"name": "ddit", "policy": chosen}],
        },
        "options",
    )  # fmt: skip
    quiet_libraries()
    _draw(experiment, prompts_of(texts, seed), out)


def _draw(experiment: Any, prompts: list[Prompt], out: Path) -> None:
    from ddit_eval.ddit.trace import StepTrace
    from ddit_eval.experiment.generate import Generator
    from ddit_eval.experiment.records import pictures
    from ddit_eval.experiment.setting import Setting
    from ddit_eval.figures import save, schedule_heatmap
    from ddit_eval.judging.wording import counted
    from ddit_eval.system.files import check_writable
    from ddit_eval.system.films import write_sample

    check_writable(out)
    setting = Setting(experiment)
    base, method = experiment.methods
    moving = setting.job(base, prompts[0]).frames > 1  # before the model is loaded: what is missing shows
    schedules: list[list[StepTrace]] = []
    with progress("pictures") as step, Generator(setting) as generator:
        for number, prompt in enumerate(prompts):
            step(number, len(prompts), prompt.text[:60])
            for suffix, how in (("-base", base), ("", method)):
                job = setting.job(how, prompt)
                run = generator.sample([job])
                write_sample(pictures(run.levels[0]), out / f"{number:03d}{suffix}", job.fps)
            schedules.append(run.trace)
        step(len(prompts), len(prompts), "done")
    rows = [[s.scale for s in schedule] for schedule in schedules]
    figure = schedule_heatmap(
        rows, labels=[p.text for p in prompts], timesteps=[s.timestep for s in schedules[0]]
    )
    save(figure, out / "schedule")
    for prompt, schedule in zip(prompts, schedules, strict=True):
        ratio = sum(s.base_tokens for s in schedule) / sum(s.tokens for s in schedule)
        say(
            f"{ratio:.2f} times fewer tokens, scales {''.join(str(s.scale) for s in schedule)}: {prompt.text}"
        )
    if remark := method.policy.verdict(schedules):
        say(remark)
    what = counted(len(prompts), "clip" if moving else "picture")
    say(f"wrote {what}, the base model's beside them, and schedule.png to {out}")


def _flow(text: str) -> dict[str, Any]:
    from ddit_eval.system.yaml import parse_yaml

    data = parse_yaml(text, "--policy")
    if isinstance(data, str):
        return {"kind": data}
    if not isinstance(data, dict):
        raise DditError(f'--policy {text!r} must be like "{{kind: fixed, scale: 2}}"')
    return data


def train(
    config: Annotated[Path, typer.Argument(help="What to train, e.g. experiments/train/adapter.yaml.")],
) -> None:
    """Train an adapter: the frozen base model is distilled into coarser patches.

    Killed at any moment, the same command goes on from the last checkpoint.
    On several GPUs: `accelerate launch -m ddit_eval train CONFIG`
    """
    from ddit_eval.system.files import check_writable
    from ddit_eval.training import distil

    settings = distil.load_config(config)
    distil.check_sources(settings)
    check_writable(settings.out)
    quiet_libraries()
    inputs = distil.inputs_of(settings)
    finished = distil.is_finished(settings, inputs)
    if not finished and int(os.environ.get("RANK", 0)) == 0:
        say(str(distil.estimate(settings)))
    with progress("steps") as step:
        for row in () if finished else distil.distil(settings, inputs=inputs):
            errors = "  ".join(f"{k} {v:.3f}" for k, v in row.items() if k.startswith("error"))
            step(int(row["step"]), int(row["of"]), errors)
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    done = "is finished with these settings already; nothing is trained" if finished else "is written"
    say(f"the adapter in {settings.out} {done}")
    from ddit_eval.tracking import track_training

    if track_training(settings.out):
        say("logged the training in MLflow; `make ui` shows it")


def models() -> None:
    """List the models, whether their weights are on this machine, and how to get them."""
    from rich.table import Table

    from ddit_eval.models.find import find
    from ddit_eval.models.names import MODELS

    table = Table("name", "what", "px", "weights", box=None, pad_edge=False)
    missing = []
    for model in MODELS.values():
        here = find(model.name) is not None
        table.add_row(
            model.name, model.what, str(model.side), "[green]present[/]" if here else "[red]missing[/]"
        )
        missing += [] if here else [model]
    stdout.print(table)
    for model in missing:
        say(f"To get {model.name}: {model.get}")
    say("A folder of any diffusers pipeline, or the hub id of a downloaded one, works wherever a name does.")


def measures() -> None:
    """List all metrics: which way each is better, its range, its weights and whether they are here."""
    from rich.markup import escape
    from rich.table import Table

    from ddit_eval.metrics.listing import rows

    found = rows()
    table = Table("metric", "of", "better", "range", "needs", "here", box=None, pad_edge=False)
    for row in found:
        here = "[red]no[/]" if row.missing else "[green]yes[/]"
        needs = escape(row.weights or "nothing")
        table.add_row(escape(row.name), row.of, row.direction, row.range, needs, here)
    stdout.print(table)
    for why in dict.fromkeys(row.missing for row in found if row.missing):
        say(f"Missing: {why}")
