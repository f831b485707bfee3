"""What the machine offers, and the processes of a run."""
