"""Many trainings under one question, and one table of their results."""
