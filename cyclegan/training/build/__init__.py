"""From the settings of a run to its parts: the one room of training that reads settings."""
