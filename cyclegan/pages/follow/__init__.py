"""`python -m cyclegan monitor`: the live page from a run's files."""
