"""Step times at full size on a GPU, in one call and one JSON: FLUX.1-dev, Wan 2.1, HunyuanVideo.

    python experiments/full_size.py --minutes 12

The architectures and sizes are the true ones, the weights are random: time does not depend on their values,
and so nothing is downloaded. What comes out is noise; of quality nothing is said here. The file is written
anew after each figure, so that a run that is cut off leaves what it has.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import diffusers
import torch
import typer

from ddit_eval import stats
from ddit_eval.clock import machine, roofline, timing
from ddit_eval.clock.compiling import CompiledBlocks, graphs
from ddit_eval.clock.stopwatch import Stopwatch
from ddit_eval.ddit.adapter.adapter import Adapter
from ddit_eval.ddit.families import family_of
from ddit_eval.ddit.handle import attach
from ddit_eval.ddit.policies import Base, Explicit, Fixed, Policy, Region, Threshold
from ddit_eval.models import flops
from ddit_eval.schema.timing import Machine
from ddit_eval.system.files import write_json

LOOP = 4  # denoising steps of a timed call


@dataclass(frozen=True)
class Case:
    """A pipeline at its full size. `paper`: speed-ups that DDiT reports for it, alone and with a cache."""

    pipeline: str
    transformer: str
    config: dict[str, Any]
    size: dict[str, int]
    scheduler: dict[str, Any]
    text: dict[str, tuple[int, ...]]  # embeddings that the pipeline takes, without their batch dimension
    words: int
    steps: int
    paper: tuple[float, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)


FLUX_TEXT = {"prompt_embeds": (512, 4096), "pooled_prompt_embeds": (768,)}
HUNYUAN_TEXT = {"prompt_embeds": (256, 4096), "pooled_prompt_embeds": (768,), "prompt_attention_mask": (256,)}
WAN_SCHEDULE = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
WAN_SIZE = {"height": 480, "width": 832, "num_frames": 81}


def wan(heads: int, layers: int, hidden: int) -> Case:
    config = {"num_attention_heads": heads, "num_layers": layers, "ffn_dim": hidden}
    text = {"prompt_embeds": (512, 4096), "negative_prompt_embeds": (512, 4096)}
    return Case(
        "WanPipeline",
        "WanTransformer3DModel",
        config,
        WAN_SIZE,
        WAN_SCHEDULE,
        text,
        512,
        50,
        (2.1, 3.2),
        {"guidance_scale": 5.0},
    )


CASES = {
    "FLUX.1-dev": Case(
        "FluxPipeline",
        "FluxTransformer2DModel",
        {"guidance_embeds": True},
        {"height": 1024, "width": 1024},
        {"shift": 3.0, "use_dynamic_shifting": True},
        FLUX_TEXT,
        512,
        50,
        (2.18, 3.52),
    ),
    "Wan2.1-1.3B": wan(12, 30, 8960),
    "HunyuanVideo": Case(
        "HunyuanVideoPipeline",
        "HunyuanVideoTransformer3DModel",
        {"guidance_embeds": True},
        {"height": 544, "width": 960, "num_frames": 33},
        {"shift": 7.0},
        HUNYUAN_TEXT,
        256,
        50,
    ),
    "Wan2.1-14B": wan(40, 40, 13824),
}


def tiny() -> dict[str, Case]:
    """The same code on a CPU in seconds."""
    text = {"prompt_embeds": (8, 16), "pooled_prompt_embeds": (16,)}
    small = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
    flux = small | {
        "in_channels": 12,
        "num_single_layers": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 16,
        "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6),
    }
    clip = small | {"in_channels": 4, "out_channels": 4, "text_dim": 16, "freq_dim": 32, "ffn_dim": 64}
    schedule = {"shift": 3.0, "use_dynamic_shifting": True}
    both = {"prompt_embeds": (8, 16), "negative_prompt_embeds": (8, 16)}
    return {
        "tiny FLUX": Case(
            "FluxPipeline", "FluxTransformer2DModel", flux, {"height": 128, "width": 128}, schedule, text, 8,
            6, (1.2,),
        ),
        "tiny Wan": Case(
            "WanPipeline", "WanTransformer3DModel", clip, {"height": 128, "width": 128, "num_frames": 5},
            WAN_SCHEDULE, both, 8, 6, (1.2,), {"guidance_scale": 5.0},
        ),
    }  # fmt: skip


class Bench:
    """One case on one device."""

    def __init__(self, case: Case, device: torch.device, dtype: torch.dtype, described: Machine):
        self.case, self.device, self.machine = case, device, described
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                transformer = getattr(diffusers, case.transformer)(**case.config).eval()
        finally:
            torch.set_default_dtype(before)
        scheduler: Any = diffusers.FlowMatchEulerDiscreteScheduler
        if "prediction_type" in case.scheduler:
            scheduler = diffusers.UniPCMultistepScheduler
        kind = getattr(diffusers, case.pipeline)
        asked = inspect.signature(kind).parameters.items()
        parts: dict[str, Any] = {name: None for name, p in asked if p.default is p.empty}
        self.pipe = kind(**parts | {"transformer": transformer, "scheduler": scheduler(**case.scheduler)})
        self.pipe.set_progress_bar_config(disable=True)
        self.adapter = Adapter.from_base(self.pipe).eval()
        self.watch = Stopwatch(self.pipe)
        generator = torch.Generator(device).manual_seed(0)
        self.text = {
            name: torch.ones(1, *shape, device=device, dtype=dtype)
            if name.endswith("mask")
            else torch.randn(1, *shape, device=device, dtype=dtype, generator=generator)
            for name, shape in case.text.items()
        }
        self.traces: list[Any] = []

    def call(self, steps: int = LOOP, **text: Any) -> None:
        """One pipeline call, to latents."""
        noise = torch.Generator(self.device).manual_seed(1)
        given = self.case.size | self.text | self.case.more | text
        self.pipe(num_inference_steps=steps, output_type="latent", generator=noise, **given)

    def runner(self, policy: Policy | None, steps: int = LOOP, **text: Any) -> Callable[[int, int], float]:
        """Seconds of a step under `policy`; None: on the plain pipeline."""

        def run(_: int, __: int) -> float:
            handle = attach(self.pipe, self.adapter, policy or Base())
            try:
                if policy is None:
                    handle.detach()
                took = self.watch.seconds(lambda: self.call(steps, **text)) / steps
                self.traces = handle.trace
                return took
            finally:
                handle.detach()

        return run

    def layouts(self, rounds: int) -> dict[str, Any]:
        """Milliseconds a step by layout, the attachment's cost and the decision's, peak memory, roofline."""
        policies: dict[str, Policy | None] = {
            "plain": None,
            "1p": Base(),
            "rule that never fires": Threshold(tau=1e-30, order=1),
            "2p": Fixed(2),
            "4p": Fixed(4),
            "mixed, 40 % of the tokens": Region(budget=0.4, order=1),
        }
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        runners = {name: self.runner(policy) for name, policy in policies.items()}
        samples = timing.run_blocks(runners, range(rounds), 1, reference="plain")
        rows = []
        for name in runners:
            times = [s.stages[timing.STAGE] for s in samples if s.method == name]
            runners[name](0, 0)
            tokens = [step.tokens for step in self.traces] or [self.base_tokens]
            rows.append(
                {
                    "layout": name,
                    "ms": round(1000 * sorted(times)[len(times) // 2], 3),
                    "tokens": sum(tokens) / len(tokens),
                    "speedup": timing.speedup(samples, name, "plain").to_json(),
                }
                | self.bound(name)
            )
        result: dict[str, Any] = {
            "rows": rows,
            "null": timing.speedup(samples, timing.NULL, "plain").to_json(),
            "attachment, % of a step": timing.speedup(samples, "plain", "1p").scaled(100, -100).to_json(),
            "decision, % of a step": timing.speedup(samples, "1p", "rule that never fires")
            .scaled(100, -100)
            .to_json(),
        }
        if self.device.type == "cuda":
            result["peak memory, GB"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
        return result

    @property
    def grid(self) -> flops.Grid:
        size, patch = self.case.size, family_of(self.pipe.transformer).patch
        space = getattr(self.pipe, "vae_scale_factor_spatial", None) or self.pipe.vae_scale_factor
        time_factor = getattr(self.pipe, "vae_scale_factor_temporal", 1)
        frames = (size.get("num_frames", 1) - 1) // time_factor + 1
        return frames, size["height"] // space // patch, size["width"] // space // patch

    @property
    def base_tokens(self) -> int:
        frames, height, width = self.grid
        return frames * height * width

    def bound(self, name: str) -> dict[str, Any]:
        """TFLOP of a step and the least milliseconds that the measured rates allow."""
        scale = {"plain": 1, "1p": 1, "2p": 2, "4p": 4}.get(name)
        if scale is None:
            return {}
        transformer, calls = self.pipe.transformer, 2 if "guidance_scale" in self.case.more else 1
        layout = self.adapter.tile(self.grid, scale)
        work = calls * flops.forward(transformer, layout, self.case.words, self.adapter)
        weight = calls * sum(p.numel() * p.element_size() for p in transformer.parameters())
        least, limit = roofline.bound(work, weight, self.machine.matmul_gflops, self.machine.copy_gb_s)
        return {"tflop": round(work / 1e12, 3), "bound_ms": round(1000 * least, 3), "bound_by": limit}

    def compiled(self, rounds: int) -> dict[str, Any]:
        """The same layouts with compiled blocks, and what compiling took."""
        blocks = CompiledBlocks(self.pipe.transformer, dynamic=None)
        before, began = graphs(), time.monotonic()
        runners: dict[str, Callable[[int, int], float]] = {"eager 1p": self.runner(Base())}

        def on(policy: Policy) -> Callable[[int, int], float]:
            run = self.runner(policy)

            def compiled(prompt: int, seed: int) -> float:
                with blocks.on():
                    return run(prompt, seed)

            return compiled

        for name, policy in {
            "1p": Base(),
            "2p": Fixed(2),
            "4p": Fixed(4),
            "mixed": Region(budget=0.4, order=1),
        }.items():
            runners[name] = on(policy)
            runners[name](0, 0)
        warmed = {"graphs": graphs() - before, "seconds": round(time.monotonic() - began, 1)}
        samples = timing.run_blocks(runners, range(rounds), 1)
        speedups = {name: timing.speedup(samples, name, "eager 1p").to_json() for name in runners}
        return warmed | {
            "recompiled": graphs() - before - warmed["graphs"],
            "speedup over eager 1p": speedups,
        }

    def text_share(self, rounds: int) -> dict[str, Any]:
        """How much faster a 4p step gets where the text is an eighth as long."""
        short = {k: v[:, : v.shape[1] // 8].contiguous() for k, v in self.text.items() if v.ndim == 3}
        short |= {k: v[:, : v.shape[1] // 8] for k, v in self.text.items() if k.endswith("mask")}
        runners = {"whole": self.runner(Fixed(4)), "eighth": self.runner(Fixed(4), **short)}
        samples = timing.run_blocks(runners, range(rounds), 1)
        return {"4p, an eighth of the text": timing.speedup(samples, "eighth", "whole").to_json()}

    def profile(self) -> dict[str, Any]:
        """Which part of a step's time the GPU is busy, by scale, and with what. CUDA only."""
        from torch.profiler import ProfilerActivity, profile

        found = {}
        for name, policy in {"1p": Base(), "2p": Fixed(2), "4p": Fixed(4)}.items():
            run = self.runner(policy)
            run(0, 0)
            wall = run(0, 0) * LOOP
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                run(0, 0)
            kernels = sorted(seen.key_averages(), key=lambda event: -event.self_device_time_total)
            busy = sum(event.self_device_time_total for event in kernels) / 1e6
            found[name] = {
                "busy, % of the time": round(100 * busy / wall, 1),
                "kernels a step": sum(event.count for event in kernels) // LOOP,
                "longest": {
                    event.key[:80]: round(event.self_device_time_total / 1000 / LOOP, 3)
                    for event in kernels[:8]
                },
            }
        return found

    def end_to_end(self, wanted: float, rounds: int) -> dict[str, Any]:
        """A forced schedule whose token ratio is the paper's speed-up: what the clock makes of it, alone and
        with a cache that skips every other step (diffusers' MagCache, its ratios set to that)."""
        steps = self.case.steps
        ratio = {s: self.base_tokens / self.adapter.tile(self.grid, s).tokens for s in (2, 4)}
        schedule = forced(steps, wanted, ratio)
        policy = Explicit(schedule)
        runners = {"plain": self.runner(None, steps), "schedule": self.runner(policy, steps)}
        samples = timing.run_blocks(runners, range(rounds), 1)
        config = diffusers.MagCacheConfig(
            threshold=1e9, max_skip_steps=1, retention_ratio=0.1, num_inference_steps=steps,
            mag_ratios=[1.0] * steps,
        )  # fmt: skip
        self.pipe.transformer.enable_cache(config)
        try:
            cached = timing.run_blocks(runners, range(rounds), 1)
        finally:
            self.pipe.transformer.disable_cache()
        plain = [s.stages[timing.STAGE] for s in samples if s.method == "plain"]
        both = [s.stages[timing.STAGE] for s in cached if s.method == "schedule"]
        return {
            "steps": steps,
            "scales": "".join(map(str, schedule)),
            "token_ratio": steps / sum(1 / ratio.get(s, 1.0) for s in schedule),
            "paper": wanted,
            "speedup": timing.speedup(samples, "schedule", "plain").to_json(),
            "speedup, cache alone": stats.geometric_ratio(
                plain, [s.stages[timing.STAGE] for s in cached if s.method == "plain"]
            ).to_json(),
            "speedup, both": stats.geometric_ratio(plain, both).to_json(),
        }


def forced(steps: int, wanted: float, ratio: Mapping[int, float]) -> list[int]:
    """A schedule of so many steps, 4p first, then 2p, then fine, whose tokens are `wanted` times fewer, with
    as few 4p steps as that takes."""
    for coarsest in range(steps + 1):
        for middle in range(steps - coarsest + 1):
            tokens = coarsest / ratio[4] + middle / ratio[2] + steps - coarsest - middle
            if steps / tokens >= wanted:
                return [4] * coarsest + [2] * middle + [1] * (steps - coarsest - middle)
    return [4] * steps


def main(
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("results/full-size.json"),
    minutes: Annotated[float, typer.Option(help="No figure is begun after so long.")] = 12,
    only: Annotated[list[str] | None, typer.Option(help="A case; may be given again.")] = None,
    rounds: Annotated[int, typer.Option(help="Blocks that the ratios are taken over.")] = 8,
    compiled: Annotated[bool, typer.Option(help="Time compiled blocks too.")] = True,
    small: Annotated[bool, typer.Option("--tiny", help="Tiny models on any device, for a trial.")] = False,
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not small:  # hours
        raise typer.BadParameter("full size needs a CUDA device; --tiny runs anywhere")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    described = machine.describe(device, dtype)
    result: dict[str, Any] = {
        "machine": described.plain(),
        "weights": "random",
        "dtype": str(dtype),
        "cases": {},
    }
    end = time.monotonic() + 60 * minutes
    cases = tiny() if small else CASES
    for name, case in cases.items():
        if (only and name not in only) or time.monotonic() > end:
            continue
        found: dict[str, Any] = {"size": case.size, "text tokens": case.words}
        result["cases"][name] = found
        try:
            bench = Bench(case, device, dtype, described)
            figures: dict[str, Callable[[], Any]] = {
                "layouts": lambda b=bench: b.layouts(rounds),
                "text": lambda b=bench: b.text_share(max(2, rounds // 2)),
                **({"profile": bench.profile} if device.type == "cuda" else {}),
                **{f"paper {w}x": lambda b=bench, w=w: b.end_to_end(w, 2) for w in case.paper},
                **({"compiled": lambda b=bench: b.compiled(max(2, rounds // 2))} if compiled else {}),
            }
            for key, measure in figures.items():
                if time.monotonic() > end:
                    found[key] = "no time left"
                    continue
                began = time.monotonic()
                found[key] = measure()
                print(f"{name}, {key}: {time.monotonic() - began:.0f} s", flush=True)
                write_json(out, result)
        except torch.cuda.OutOfMemoryError as error:
            found["error"] = f"out of memory: {error}"
        finally:
            bench = None  # type: ignore[assignment]
            if device.type == "cuda":
                torch.cuda.empty_cache()
            write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
