"""How the models that ship are made: a recipe (YAML) for each, and the commands that its steps name."""
