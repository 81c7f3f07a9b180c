"""What a run has learned: metrics, its model read back, its masks, the network of one task."""
