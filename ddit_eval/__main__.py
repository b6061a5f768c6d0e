"""`python -m ddit_eval`: the command line."""

from ddit_eval.cli import main

main()
