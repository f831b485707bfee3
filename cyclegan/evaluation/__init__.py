"""Evaluation: how near translated images are to real ones, without any downloaded network."""
