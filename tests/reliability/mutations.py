"""Damage to the bytes of a file, by accident or on purpose."""

import re
from collections.abc import Callable

import numpy as np

Mutation = Callable[[np.random.Generator, bytes], bytes]

NUMBER = re.compile(rb"-?\d+")
# What stands in headers and in JSON, and what another type would be.
TYPES = (
    (rb"<f8", (b"|O8", b"<i8", b">f8", b"<U2", b"<f4")),
    (rb"<i8", (b"|O8", b"<f8", b"<u4", b">i8")),
    (rb"<u4", (b"<i4", b"<f4", b"|O4")),
    (rb"\d+\.\d+", (b"null", b'"x"', b"[1]", b"nan", b"1e999", b"{}")),
    (rb'"[a-z_]+"', (b"null", b"3", b"[]", b'"\\ud800"')),
    (rb"\[", (b"{", b"", b"[[")),
    (rb"=", (b"", b"==", b'="')),
    (rb":R:", (b":S:", b":I:", b":L:")),
    (rb"True|False", (b"None", b"2", b"T")),
    (rb"numpy|torch", (b"posix", b"nt")),
)
BIG = (0, 1, 0x7F, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def bit(rng: np.random.Generator, data: bytes) -> bytes:
    """One flipped bit."""
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def byte(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to eight other bytes."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(changed)


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    """The end is missing, or zeros."""
    length = int(rng.integers(len(data)))
    return data[:length] + bytes(len(data) - length) * int(rng.integers(2))


def splice(rng: np.random.Generator, data: bytes) -> bytes:
    """A piece over another place, twice, or left out."""
    start, end = sorted(int(i) for i in rng.integers(len(data) + 1, size=2))
    end = min(end, start + max(len(data) // 4, 1))
    place = int(rng.integers(len(data)))
    piece = data[start:end]
    return (
        data[:place] + piece + data[place + len(piece) :],
        data[:place] + piece + data[place:],
        data[:start] + data[end:],
    )[int(rng.integers(3))]


def counts(rng: np.random.Generator, data: bytes) -> bytes:
    """A number in text is another, or the bytes of one in a header are."""
    found = list(NUMBER.finditer(data))
    if found and rng.random() < 0.6:
        one = found[int(rng.integers(len(found)))]
        text = (b"0", b"-1", b"1", b"99999999999", one[0] + b"000000", one[0][:-1] or b"7")
        return data[: one.start()] + text[int(rng.integers(len(text)))] + data[one.end() :]
    width = int(rng.choice([2, 4, 8]))
    # Headers are where counts are.
    reach = max(len(data) if rng.random() < 0.5 else min(len(data), 512), width + 1)
    place = int(rng.integers(max(reach - width, 1))) // 2 * 2
    value = BIG[int(rng.integers(len(BIG)))] % (1 << (8 * width))
    order = "little" if rng.random() < 0.8 else "big"
    return data[:place] + value.to_bytes(width, order) + data[place + width :]


def types(rng: np.random.Generator, data: bytes) -> bytes:
    """A value is one of another type."""
    fitting = [(re.compile(one), others) for one, others in TYPES if re.search(one, data)]
    if not fitting:
        return byte(rng, data)
    pattern, others = fitting[int(rng.integers(len(fitting)))]
    found = list(pattern.finditer(data))
    one = found[int(rng.integers(len(found)))]
    return data[: one.start()] + others[int(rng.integers(len(others)))] + data[one.end() :]


MUTATIONS: dict[str, Mutation] = {
    "bit": bit,
    "byte": byte,
    "cut": cut,
    "splice": splice,
    "counts": counts,
    "types": types,
}
