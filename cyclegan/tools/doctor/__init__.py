"""`python -m cyclegan doctor`: inspects a data folder before a long run."""
