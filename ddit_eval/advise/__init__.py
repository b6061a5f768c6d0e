"""The answer to "at 2x, what do I lose?": steps, solvers, caches, skipped steps and coarse patches, searched
together.

| file | idea |
| --- | --- |
| plan.py | which steps are computed, skipped or coarse: as many as a budget allows |
| ways.py, arms.py | what a trial may be; searches side by side, with equally many trials |
| estimate.py | how long it will take, and how many trials fit |
| search.py | the Optuna study, on tuning prompts |
| pick.py | the best row at a speed-up |
| run.py | the whole: search, time, confirm on held-out prompts, frontier.json |
"""

from ddit_eval.advise.run import advise

__all__ = ["advise"]
