"""One run of the program: its config, directory, progress and processes."""
