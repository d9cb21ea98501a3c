"""What the distances say: uncertainty, explanation, recommendation, choice."""
