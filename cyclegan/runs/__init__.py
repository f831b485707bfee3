"""A run on disk: its folder and every file in it."""
