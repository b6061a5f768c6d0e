"""The result files as typed models: what they hold, what each row was measured of, and one reader.

| file | idea |
| --- | --- |
| model.py | the base of all, intervals as JSON, `read` and `write` |
| measured.py | `Measured`: what decides a row; what differs between two |
| record.py | runs/: a record a sample, index.json; traces.json |
| quality.py, timing.py, study.py, oracle.py, frontier.py | results/<profile>/*.json |
| distillation.py | errors.json beside an adapter |
| summary.py | results/summary.json, the table that others read |
"""

from ddit_eval.schema.frontier import Frontier
from ddit_eval.schema.measured import Measured, differences
from ddit_eval.schema.model import read, write
from ddit_eval.schema.oracle import Oracle
from ddit_eval.schema.quality import Quality
from ddit_eval.schema.record import Index, Record, Traces
from ddit_eval.schema.study import Study
from ddit_eval.schema.summary import Summary
from ddit_eval.schema.timing import Timing

__all__ = [
    "Frontier", "Index", "Measured", "Oracle", "Quality", "Record", "Study", "Summary", "Timing", "Traces",
    "differences", "read", "write",
]  # fmt: skip
