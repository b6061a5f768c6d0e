"""What a row runs with besides its policy and its steps: a cache, another solver, somebody's own speed-up."""
