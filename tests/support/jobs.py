"""A sample to be made, and what making it gave."""

import numpy as np

from ddit_eval.ddit.trace import StepTrace
from ddit_eval.experiment.records import Job

JOB = Job(
    model="m", model_hash="mmm", adapter="a", adapter_hash="aaa", dtype="float32", code="", method="base",
    policy={"kind": "base"}, steps=4, height=8, width=8, guidance_scale=3.5, true_cfg_scale=1.0,
    prompt="a red star", index=0, seed=7,
)  # fmt: skip
PICTURE = np.full((1, 8, 8, 3), (10, 20, 30), np.uint8)
STEP = StepTrace(index=0, timestep=1000.0, scale=1, signals=None, tokens=4, base_tokens=4, seconds=0.1)
