"""Torch layers, each beside its cost twin: a function that lists the Ops the layer performs."""
