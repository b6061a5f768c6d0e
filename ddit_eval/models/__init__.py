"""Which models there are, where they lie, how to load one, and what a call costs on paper."""
