"""Weight-shared layers: one set of weights, and a forward pass that takes the choice."""
