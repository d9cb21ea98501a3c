"""Uses of a trained model: predictions, an ASE calculator, features."""
