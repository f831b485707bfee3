"""Commands round the training: look over data, make a low-resolution domain."""
