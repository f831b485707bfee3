"""`python -m cyclegan doctor`: a data folder looked over before a long run."""
