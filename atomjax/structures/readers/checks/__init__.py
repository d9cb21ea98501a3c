"""Checks that parsers do not make: whether files are whole and unchanged, and labels likely."""
