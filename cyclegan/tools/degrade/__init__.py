"""`python -m cyclegan degrade`: makes a low-resolution domain of photographs."""
