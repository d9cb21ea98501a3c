"""Layouts of files that several readers share."""
