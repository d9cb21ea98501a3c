"""What a trained model is asked for: predictions, a calculator, features."""
