"""`python -m ddit_eval.cli`."""

from ddit_eval.cli import main

main()
