"""Unpaired image translation: two generators and two discriminators, taught by two folders."""

__version__ = "0.1.0"
