"""The machine: its devices, and the process group of a run."""
