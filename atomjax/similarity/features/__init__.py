"""Features of the atoms of data sets, sampled and cached."""
