"""`python -m cyclegan degrade`: a low-resolution domain from photographs."""
