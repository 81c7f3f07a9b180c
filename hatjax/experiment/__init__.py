"""Running experiments: sweeps, training, checkpoints, resuming, progress on the screen."""
