"""Runs from top to bottom: which there are, training them, resuming them, what a person sees."""
