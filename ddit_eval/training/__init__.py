"""Training: distillation of adapters, and what any training here shares."""
