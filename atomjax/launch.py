"""Runs a config: ``python -m atomjax.launch --config configs/quickstart.py --workdir DIR``."""

import sys

from atomjax.command.launch import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
