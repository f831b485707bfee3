"""python -m cyclegan runs: a table of runs."""
