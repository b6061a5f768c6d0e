"""GenEval's summary: by picture, by prompt, by task, and the mean over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddit_eval import stats
from ddit_eval.errors import DditError
from ddit_eval.metrics.geneval.protocol import Result
from ddit_eval.system.files import canonical


def summary(results: Sequence[Result], detector: str | None = None) -> dict[str, Any]:
    """Scores as JSON: `correct_images`, `correct_prompts` (right in any of its pictures), `tasks` by tag with
    the interval over prompts, and `overall`, the mean of the tasks' scores.

    A task's score is over its pictures, as GenEval has it. `detector` is the name of what looked.
    """
    if not results:
        raise DditError("GenEval's summary needs results, and there are none: evaluate pictures first")
    prompts = [canonical(r.metadata.to_json()) for r in results]
    right = np.array([r.correct for r in results], float)
    any_right: dict[str, bool] = {}
    for prompt, result in zip(prompts, results, strict=True):
        any_right[prompt] = any_right.get(prompt, False) or result.correct
    tasks: dict[str, Any] = {}
    for tag in dict.fromkeys(r.tag for r in results):
        rows = [i for i, r in enumerate(results) if r.tag == tag]
        by_prompt = stats.by_prompt(right[rows], [prompts[i] for i in rows])
        tasks[tag] = {
            "score": float(right[rows].mean()),
            "correct": int(right[rows].sum()),
            "images": len(rows),
            "prompts": len(by_prompt),
            "interval": stats.mean(by_prompt).to_json(),
        }
    return {
        "images": len(results),
        "prompts": len(any_right),
        "correct_images": float(right.mean()),
        "correct_prompts": sum(any_right.values()) / len(any_right),
        "tasks": tasks,
        "overall": float(np.mean([task["score"] for task in tasks.values()])),
        "detector": detector,
        "source": "GenEval (Ghosh et al. 2023, arXiv 2310.11513)",
    }
