"""Hard Attention to the Task and its baselines for continual learning, in functional JAX."""

__version__ = "0.1.0"
