"""Names of Python's standard library in pickles: a table for `atomjax.safe_pickle.interpreter`."""

from typing import Any

from atomjax.safe_pickle.interpreter import Global, PickleError, Record, Table, keys


def bytes_of(content: Any) -> bytes:
    """`content` if it is bytes; raises PickleError where it is something else."""
    if not isinstance(content, bytes | bytearray):
        raise PickleError(f"refused: a {type(content).__name__} where bytes belong")
    return bytes(content)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as protocols 0 to 2 write them."""
    if encoding not in ("latin1", "latin-1"):
        raise PickleError(f"refused: text in the encoding {encoding!r}")
    return text.encode("latin1")


def _bytearray(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    # Not the builtin, which makes a number into so many zeros.
    return bytearray(_encode(content, encoding) if isinstance(content, str) else bytes_of(content))


def _dict(items: Any = ()) -> dict[Any, Any]:
    """A dictionary of another one or of pairs, whatever its class adds to that."""
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(pair) for pair in items]
    keys(key for key, _ in pairs)
    return dict(pairs)


def _reconstruct(kind: Any, *_: Any) -> Record:
    """An object of protocol 1: its class, its base and the base's value."""
    made = kind.call() if isinstance(kind, Global) and kind.call is not None else None
    if not isinstance(made, Record):
        raise PickleError(f"refused to make an object of {kind!r}")
    return made


# Containers, and the types that containers and records refer to.
PLAIN: Table = {
    "_codecs.encode": _encode,
    "collections.Counter": _dict,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda _=None, items=(): _dict(items),
    "copyreg._reconstructor": _reconstruct,
    "copy_reg._reconstructor": _reconstruct,
    **{
        f"{module}.{name}": call
        for module in ("builtins", "__builtin__")
        for name, call in (
            ("set", lambda items=(): set(keys(items))),
            ("frozenset", lambda items=(): frozenset(keys(items))),
            ("list", list),
            ("dict", _dict),
            ("tuple", tuple),
            ("bytes", lambda *content: bytes(_bytearray(*content))),
            ("bytearray", _bytearray),
            ("complex", complex),
            *((name, None) for name in "int long float bool str unicode object".split()),
        )
    },
}
