"""Errors of generating and labelling structures."""


class GenerateError(RuntimeError):
    """A set that cannot be made; the message gives the reason and the remedy."""


class LabelError(Exception):
    """One geometry that gets no label. It is dropped, counted by reason, and drawn anew.

    Args:
        reason: one of a few fixed texts, so that counts stay readable.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# Extras of the packages that the others do without.
EXTRAS = {"chgnet": "crystals"}


def missing_package(name: str) -> GenerateError:
    """The error for a labelling package that is not installed."""
    return GenerateError(
        f"generating labelled structures needs the package {name}, which is not installed;"
        f" run: pip install 'atomjax[{EXTRAS.get(name, 'demo')}]'"
    )
