"""From the data section of a config to data sets and their card."""
