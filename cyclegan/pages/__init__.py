"""What a browser shows of runs."""
