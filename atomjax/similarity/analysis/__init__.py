"""Analysis of distances: uncertainty, explanation, recommendation, selection."""
