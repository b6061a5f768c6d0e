"""The attack: what can be done to files and to running commands, done.

    python -m tests.support.attack                          # tables; exit code 1 if anything failed
    python -m tests.support.attack --seed 7 --case 1234     # that damaged file again, with its traceback
    python -m tests.support.attack --files 0 --command run  # one command, killed at each of its writes

| file | idea |
| --- | --- |
| damage.py | kinds of damage, each a function of bytes and a random generator |
| formats.py | every format that the package reads: an example, and what a command does to read it |
| kit.py | a tiny model, loaded once, and what commands do with it |
| judge.py | a damaged file read in a fork; refused, unchanged, healed, legally different or FAILED |
| kills.py | a command killed at each of its writes, called again, its files compared |
"""
