"""The algorithm: networks, losses, optimizers and what they make of a batch."""
