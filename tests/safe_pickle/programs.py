"""Archives as torch.save writes them, around a pickle made by hand."""

import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def call(name: str, *arguments: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    named = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return b"(" + named + number(count) + b"tQ"


def tensor(size: tuple, stride: tuple, offset: int = 0, count: int = 6, **where: str) -> bytes:
    return call(
        "torch._utils._rebuild_tensor_v2",
        storage(count, **where),
        number(offset),
        numbers(*size),
        numbers(*stride),
        b"\x89",
        call("collections.OrderedDict"),
    )


def mapping(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def archive(
    path: Path,
    program: bytes,
    data: np.ndarray | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    order: str | None = "little",
    root: str = "archive/",
) -> Path:
    """Writes the archive of a pickle and one storage."""
    data = np.arange(6, dtype=np.float32) if data is None else data
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{root}data.pkl", b"\x80\x02" + program + b".")
        file.writestr(f"{root}data/0", data.tobytes())
        file.writestr(f"{root}version", "3\n")
        if order:
            file.writestr(f"{root}byteorder", order)
    return path
