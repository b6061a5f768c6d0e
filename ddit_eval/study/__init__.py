"""An Optuna study of cost against quality: tuned on some prompts, confirmed on others.

Two objectives over the rules of `config.Study`: the share of the base model's cost (minimised) and the
paired quality. The signal of order 1 is ten times that of order 3, and latents of two models differ as
much: so tau is searched in units of the base's own median signal of that order.

Trial N is a pure function of N and of the trials of earlier generations: how it is sampled, whether it is
stopped early and what it is worth. So any number of processes, on one machine or several, killed and started
again at will, end with the same study.

| file | idea |
| --- | --- |
| space.py | which parameters trial N has; parameters to a row |
| trial.py, trials.py | a trial from its parameters to its values; the front, and when a trial is hopeless |
| measure.py, latency.py | what a trial costs and is worth on a prompt |
| storage.py, journal.py, locks.py, slots.py | where the trials are, and who runs which |
| worker.py, run.py | the processes; a whole study |
| confirm.py, export.py | the front on held-out prompts; plain data for other stages |
| pictures.py | what the dashboard shows of a trial |
"""

from ddit_eval.study.export import export
from ddit_eval.study.run import run_study

__all__ = ["export", "run_study"]
