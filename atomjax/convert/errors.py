"""Errors of the conversion of checkpoint files."""


class ConvertError(ValueError):
    """A checkpoint that cannot be converted; the message names problem, place and remedy."""


class FileFormatError(ConvertError):
    """A file that is no PyTorch archive, or a damaged one."""


class RefusedError(ConvertError):
    """A file that asks for something to be imported or called that is not on the allow-list."""
