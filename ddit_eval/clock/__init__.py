"""Wall-clock: paired timing, what a step costs here, and what the machine is."""
