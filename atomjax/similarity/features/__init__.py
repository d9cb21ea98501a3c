"""From data sets to the features of their atoms, sampled and cached."""
