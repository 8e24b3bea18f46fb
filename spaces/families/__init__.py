"""Search spaces, one module per family."""
