"""The options of the commands: how they are written, read and checked."""
