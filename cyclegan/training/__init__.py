"""Training: the model, the step, and the loop round it."""
