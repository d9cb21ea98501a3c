"""One process among the several of a run: how they meet, share, notice a loss and are stopped."""
