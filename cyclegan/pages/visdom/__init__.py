"""The live page of a run, on Visdom."""
