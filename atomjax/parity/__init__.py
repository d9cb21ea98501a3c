"""Comparison with reference outputs of the original implementations.

``python -m atomjax.parity --oracle DIR`` reads a folder of reference numbers, builds each model
with weights fixed by a rule, and prints one line per model, structure and quantity.
"""
