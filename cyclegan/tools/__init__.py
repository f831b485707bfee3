"""Commands around training: inspect data, make a low-resolution domain."""
