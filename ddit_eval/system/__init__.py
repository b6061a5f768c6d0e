"""This machine: files, films, worker processes, the terminal."""
