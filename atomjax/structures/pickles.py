"""Pickled data without unpickling: an interpreter of the format that calls only what it is given.

A pickle is a program for a stack machine, and its GLOBAL and REDUCE instructions may call any
function of any module. Here the instructions are decoded by `pickletools.genops`, nothing is ever
imported, and the only callables are those of a caller's table, found by their dotted name. Any
other name stops with an error that says which. Opcodes as in PEP 307, PEP 3154 and CPython's
``pickletools``.
"""

import io
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO


class PickleError(ValueError):
    """Pickled data that is damaged, or asks for more than plain data."""


@dataclass(frozen=True)
class Global:
    """A name that the data refers to, and what the caller's table has under it.

    Attributes:
        name: module and qualified name, joined by a dot.
        call: stands in for the original.
    """

    name: str
    call: Callable[..., Any]


class Buildable:
    """What a table's callable returns when a BUILD instruction is to complete it."""

    def build(self, state: Any) -> Any:
        """Take the state; the result replaces this object."""
        raise PickleError(f"{type(self).__name__} takes no state")


class Record(Buildable):
    """An object of a foreign class as its name, its arguments and its state; no behaviour.

    Attributes:
        name: the class.
        arguments: of its constructor.
        state: of its attributes, usually a dict.
    """

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __repr__(self) -> str:
        return f"Record({self.name})"

    def build(self, state: Any) -> "Record":
        """Keep the state."""
        self.state = state
        return self


def record(name: str) -> Callable[..., Record]:
    """An entry for a table: instances of the class `name` become records."""
    return lambda *arguments: Record(name, arguments)


def load(
    data: bytes,
    allowed: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The object that pickled bytes describe.

    Args:
        data: one pickle.
        allowed: dotted name to what is called in its place, such as `PLAIN`. A name
            that is not here is refused; classes become `Global` where they are not called.
        persistent: resolves persistent identifiers, which are refused without it.

    Raises:
        PickleError: the data is damaged, or names something that is not allowed.
    """
    return load_next(io.BytesIO(data), allowed, persistent)


def load_next(
    stream: BinaryIO,
    allowed: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """As `load`, for the next of several pickles; the stream then stands behind it."""
    machine = _Machine(allowed, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.result()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise PickleError(f"instruction {opcode.name} is not for plain data; refused")
            step(machine, argument)
    except PickleError:
        raise
    # What decoding damaged bytes, and table entries given wrong arguments, raise.
    except (
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        AttributeError,
        RecursionError,
    ) as error:
        raise PickleError(
            f"damaged pickled data ({error or type(error).__name__}); copy the file again"
        ) from error
    raise PickleError("damaged pickled data: it ends early; copy the file again")


class _Mark:
    """Where a variable number of items begins on the stack."""


_MARK = _Mark()


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(
        self,
        allowed: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.allowed = allowed
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise PickleError(f"damaged pickled data: {len(self.stack)} objects at its end")
        return self.stack[0]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleError("damaged pickled data: an object is missing")
        return value

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if not isinstance(value, kind):
            raise PickleError(f"refused to change a {type(value).__name__} as if a {kind.__name__}")
        return value

    def items(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                found = self.stack[start + 1 :]
                del self.stack[start:]
                return found
        raise PickleError("damaged pickled data: no mark on the stack")

    def find(self, module: Any, name: Any) -> None:
        dotted = f"{module}.{name}"
        if dotted not in self.allowed:
            raise PickleError(
                f"refused: the data names {dotted!r}, which is not among the plain data that is"
                " read here; nothing was executed. Do not load this file with other software"
                " unless you trust where it came from"
            )
        self.push(Global(dotted, self.allowed[dotted]))

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise PickleError(f"refused to call a {type(function).__name__}")
        self.push(function.call(*arguments))

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if isinstance(target, dict):
            # Attributes beside a dictionary's items, such as the versions in a state_dict.
            self.push(target)
            return
        if not isinstance(target, Buildable):
            raise PickleError(f"refused to give a state to a {type(target).__name__}")
        built = target.build(state)
        if built is not target:
            for key, value in self.memo.items():
                if value is target:
                    self.memo[key] = built
        self.push(built)

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def add(self, items: list[Any]) -> None:
        self.top(set).update(_simple(items))

    def setitems(self, items: list[Any]) -> None:
        self.top(dict).update(zip(_simple(items[::2]), items[1::2], strict=True))

    def persist(self, identifier: Any) -> None:
        if self.persistent is None:
            raise PickleError("refused: the data refers to objects outside itself")
        self.push(self.persistent(identifier))


Step = Callable[[_Machine, Any], Any]


def _value(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.find(module, name)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _newobj_ex(machine: _Machine, _: Any) -> None:
    named, arguments, function = machine.pop(), machine.pop(), machine.pop()
    if named:
        raise PickleError("refused: an object with keyword arguments")
    machine.call(function, arguments)


def _inst(machine: _Machine, argument: str) -> None:
    arguments = tuple(machine.items())
    _global(machine, argument)
    machine.call(machine.pop(), arguments)


def _obj(machine: _Machine, _: Any) -> None:
    function, *arguments = machine.items()
    machine.call(function, tuple(arguments))


def _tuple(count: int) -> Step:
    def step(machine: _Machine, _: Any) -> None:
        taken = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(taken)))

    return step


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.items()
    machine.push({})
    machine.setitems(items)


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _nothing(machine: _Machine, _: Any) -> None:
    """Framing and protocol marks."""


_STEPS: dict[str, Step] = {
    **dict.fromkeys(
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING"
        " SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES BINBYTES8"
        " SHORT_BINBYTES BYTEARRAY8".split(),
        _value,
    ),
    **dict.fromkeys(["PROTO", "FRAME"], _nothing),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "MARK": lambda machine, _: machine.push(_MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.items(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.items())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda machine, _: machine.push(machine.items()),
    "DICT": _dict,
    "FROZENSET": lambda machine, _: machine.push(frozenset(_simple(machine.items()))),
    # Arguments are taken off the stack before the object below them is changed.
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.items()),
    "SETITEM": lambda machine, _: machine.setitems([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.setitems(machine.items()),
    "ADDITEMS": lambda machine, _: machine.add(machine.items()),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _put),
    **dict.fromkeys(
        ["GET", "BINGET", "LONG_BINGET"],
        lambda machine, argument: machine.push(machine.memo[int(argument)]),
    ),
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, argument: machine.persist(argument),
    "BINPERSID": lambda machine, _: machine.persist(machine.pop()),
}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 writes them."""
    if encoding.replace("-", "").replace("_", "").lower() not in ("latin1", "utf8", "ascii"):
        raise PickleError(f"refused: text in the encoding {encoding!r}")
    return str(text).encode(encoding)


def _bytearray(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    # Not the builtin, which makes a number into so many zeros.
    return bytearray(_encode(content, encoding) if isinstance(content, str) else bytes_of(content))


def bytes_of(content: Any) -> bytes:
    """`content` if it is bytes.

    Raises:
        PickleError: it is something else.
    """
    if not isinstance(content, bytes | bytearray):
        raise PickleError(f"refused: a {type(content).__name__} where bytes belong")
    return bytes(content)


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    """Items of a dictionary, given as another one or in pairs."""
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(pair) for pair in items]
    _simple(key for key, _ in pairs)
    return pairs


def _simple(values: Iterable[Any]) -> list[Any]:
    """Values that are fit for keys: hashing a deep tuple would overflow the stack."""
    found = list(values)
    for value in found:
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
            raise PickleError(f"refused: a key of type {type(value).__name__}")
    return found


# Containers of the standard library.
PLAIN: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda items=(): OrderedDict(_pairs(items)),
    "collections.defaultdict": lambda _=None, items=(): dict(_pairs(items)),
    "_codecs.encode": _encode,
    **{
        f"{module}.{name}": call
        for module in ("builtins", "__builtin__")
        for name, call in (
            ("set", lambda items=(): set(_simple(items))),
            ("frozenset", lambda items=(): frozenset(_simple(items))),
            ("list", list),
            ("dict", lambda items=(): dict(_pairs(items))),
            ("tuple", tuple),
            ("bytes", lambda *content: bytes(_bytearray(*content))),
            ("bytearray", _bytearray),
            ("complex", complex),
            ("int", int),
            ("long", int),
            ("float", float),
        )
    },
}
