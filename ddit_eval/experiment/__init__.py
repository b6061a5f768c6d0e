"""An experiment, one file a stage: generate, evaluate, time, export."""
