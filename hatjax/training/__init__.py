"""Steps, epochs and evaluation: the compiled part of a run."""
