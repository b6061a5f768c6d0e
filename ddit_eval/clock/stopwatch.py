"""Times a diffusers pipeline by stage: text, denoising loop, decoder, and the whole call.

The clock is monotonic and the device is synchronised at the borders of a stage only. On CUDA the loop is
also timed by device events; both are reported, so that one checks the other.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ddit_eval.clock import memory
from ddit_eval.clock.machine import synchronise
from ddit_eval.ddit.diffusers_private import execution_device
from ddit_eval.ddit.families import family_of

Call = Mapping[str, Any]  # keyword arguments of the pipeline


class Stopwatch:
    """Timed calls of one pipeline. Prompts are embedded once, outside of the timed loop."""

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.device = execution_device(pipe)
        self._embedded: dict[Any, dict[str, Any]] = {}
        self._family = family_of(pipe.transformer)
        self._accepts = set(inspect.signature(pipe.encode_prompt).parameters)

    def denoise(self, call: Call) -> dict[str, float]:
        """Seconds of the denoising loop of `pipe(**call)`: text is embedded before, nothing is decoded.

        Keys: `denoise`, `processor` (those of this process, all threads together: on a CPU they tell a
        disturbed machine), and on CUDA `denoise_device` (events on the stream).
        """
        call = {**self.embed(call), "output_type": "latent"}
        busy = time.process_time()
        if self.device.type != "cuda":
            wall = self.seconds(lambda: self.pipe(**call))
            return {"denoise": wall, "processor": time.process_time() - busy}
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def run() -> None:
            before.record()
            self.pipe(**call)
            after.record()

        wall = self.seconds(run)
        busy = time.process_time() - busy
        return {"denoise": wall, "processor": busy, "denoise_device": before.elapsed_time(after) / 1000}

    def whole(self, call: Call) -> dict[str, float]:
        """Seconds of `pipe(**call)` from prompt to picture, and of its `text` and `decode` parts."""
        with self._parts() as parts:
            total = self.seconds(lambda: self.pipe(**call))
        return {**parts, "end_to_end": total}

    def seconds(self, run: Callable[[], Any]) -> float:
        """Seconds of `run()`, the device idle before and after."""
        synchronise(self.device)
        start = time.perf_counter()
        run()
        synchronise(self.device)
        return time.perf_counter() - start

    def peak_memory(self, call: Call) -> int | None:
        """Peak bytes during `pipe(**call)`, in a pass of its own: of the device on CUDA, of the whole
        process on a Linux CPU. None where the system does not tell (MPS keeps no peak)."""
        if self.device.type == "cuda":
            synchronise(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.pipe(**call)
            return int(torch.cuda.max_memory_allocated(self.device))
        told = self.device.type == "cpu" and memory.reset_peak()
        self.pipe(**call)
        return memory.peak() if told else None

    @torch.no_grad()
    def embed(self, call: Call) -> dict[str, Any]:
        """`call` with embeddings in place of its prompts. The same prompts are embedded once."""
        call = dict(call)
        prompt, negative = call.pop("prompt"), call.pop("negative_prompt", None)
        length = {k: call[k] for k in ("max_sequence_length",) if k in call}
        guided = self._guidance(call) > 1
        key = (id(self.pipe), repr((prompt, negative if guided else None, guided, length)))
        if key not in self._embedded:
            embed = self._embed_all if self._family.embeds else self._embed_one
            self._embedded[key] = embed(prompt, negative, guided, length)
        return call | self._embedded[key]

    def _embed_one(self, prompt: Any, negative: Any, guided: bool, length: dict[str, Any]) -> dict[str, Any]:
        """Of a pipeline whose `encode_prompt` returns the prompt's embedding and the negative one's (Wan)."""
        embedded = self.pipe.encode_prompt(
            prompt=prompt,
            negative_prompt=negative,
            do_classifier_free_guidance=guided,
            device=self.device,
            **length,
        )
        named = zip(("prompt_embeds", "negative_prompt_embeds"), embedded, strict=True)
        return {name: value for name, value in named if value is not None}

    def _embed_all(self, prompt: Any, negative: Any, guided: bool, length: dict[str, Any]) -> dict[str, Any]:
        """Of a pipeline whose `encode_prompt` returns several embeddings of one prompt (FLUX)."""
        made = self._encode(prompt, length)
        if guided and negative is None and self._family.guided_by == "guidance_scale":
            negative = [""] * (1 if isinstance(prompt, str) else len(prompt))  # as the pipeline itself would
        if guided and negative is not None:
            made |= {f"negative_{k}": v for k, v in self._encode(negative, length).items()}
        return made

    def _encode(self, prompt: Any, length: dict[str, Any]) -> dict[str, torch.Tensor]:
        count = 1 if isinstance(prompt, str) else len(prompt)
        given = {"prompt": prompt, "prompt_2": None, "batch_size": count, "device": self.device, **length}
        embedded = self.pipe.encode_prompt(**{k: v for k, v in given.items() if k in self._accepts})
        return dict(zip(self._family.embeds, embedded, strict=False))

    def _guidance(self, call: Call) -> float:
        """The setting that asks for two calls a step: an argument, or the pipeline's guider's."""
        guider = getattr(self.pipe, "guider", None)
        return float(guider.guidance_scale if guider else call.get(self._family.guided_by, 1.0))

    @contextmanager
    def _parts(self) -> Iterator[dict[str, float]]:
        """Seconds spent in the text encoders and in the decoder, while the context is open."""
        spent = {"text": 0.0, "decode": 0.0}
        with (
            self._timed(self.pipe, "encode_prompt", "text", spent),
            self._timed(self.pipe.vae, "decode", "decode", spent),
        ):
            yield spent

    @contextmanager
    def _timed(self, owner: Any, name: str, part: str, spent: dict[str, float]) -> Iterator[None]:
        """Shadow a method by a timed one on this instance, and take the shadow away again."""
        plain = getattr(owner, name)
        before = vars(owner).get(name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            result: list[Any] = []
            spent[part] += self.seconds(lambda: result.append(plain(*args, **kwargs)))
            return result[0]

        # Past diffusers' own __setattr__, which watches for components.
        object.__setattr__(owner, name, timed)
        try:
            yield
        finally:
            object.__delattr__(owner, name)
            if before is not None:
                object.__setattr__(owner, name, before)
