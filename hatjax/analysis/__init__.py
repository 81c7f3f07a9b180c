"""Analysis of a run: metrics, the trained model, its masks, the small network of one task."""
