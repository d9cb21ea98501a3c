"""One optimisation step: losses, optimiser, state."""
