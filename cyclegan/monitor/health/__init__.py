"""What a run's numbers say about it."""
