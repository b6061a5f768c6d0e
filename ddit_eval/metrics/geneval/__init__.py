"""GenEval's protocol (Ghosh et al. 2023, arXiv 2310.11513) with any detector.

    results = geneval.evaluate(Path("pictures"), detector)        # <index>/metadata.jsonl, samples/0000.png
    geneval.write_results(Path("results.jsonl"), results)         # a line a picture, as GenEval writes it
    geneval.summary(results)                                      # by picture, by prompt, by task, overall

A detector is any object with `detect` and `colours`, see `Detector`. Published scores are of Mask2Former
with CLIP ViT-L/14 for colours (`clip_colours`); neither ships. For the captioned world there is the reader:
`geneval.world_results(pictures, captions)` runs offline, and its scores compare with nothing published.
"""

from ddit_eval.metrics.geneval.colours import clip_colours
from ddit_eval.metrics.geneval.folders import evaluate, read_prompts, write_results
from ddit_eval.metrics.geneval.metadata import COLOURS, TASKS, Clause, Metadata, parse_metadata
from ddit_eval.metrics.geneval.protocol import (
    Detection,
    Detector,
    Result,
    Rules,
    judge,
    measure,
    official_detector,
    relations,
)
from ddit_eval.metrics.geneval.scores import summary
from ddit_eval.metrics.geneval.world import WorldDetector, metadata_of, world_results

__all__ = [
    "COLOURS",
    "TASKS",
    "Clause",
    "Detection",
    "Detector",
    "Metadata",
    "Result",
    "Rules",
    "WorldDetector",
    "clip_colours",
    "evaluate",
    "judge",
    "measure",
    "metadata_of",
    "official_detector",
    "parse_metadata",
    "read_prompts",
    "relations",
    "summary",
    "world_results",
    "write_results",
]
