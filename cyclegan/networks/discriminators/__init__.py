"""The discriminators."""
