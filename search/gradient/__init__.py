"""Gradient-based search: weights and a distribution over architectures, learned together on mixtures of choices."""
