"""How near an upstream set is to a downstream task: features, statistics, Fréchet distance."""
