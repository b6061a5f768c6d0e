"""Teaching a frozen transformer to read coarser patches, by distillation (arXiv 2602.16968)."""

from ddit_eval.training.distil.config import DistilConfig, check_sources, load_config
from ddit_eval.training.distil.estimate import Estimate, estimate
from ddit_eval.training.distil.made import inputs_of, is_finished
from ddit_eval.training.distil.run import distil

__all__ = [
    "DistilConfig", "Estimate", "check_sources", "distil", "estimate", "inputs_of", "is_finished",
    "load_config",
]  # fmt: skip
