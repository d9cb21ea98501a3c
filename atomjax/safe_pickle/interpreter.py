"""An interpreter of the pickle format that builds data and calls only given functions.

A pickle is a program for a stack machine, and its GLOBAL and REDUCE instructions may call any
function of any module. Here the instructions are decoded by `pickletools.genops`, nothing is ever
imported, and the only callables are those of a caller's table, found by their dotted name. Classes
of which only a record is wanted are listed by name. Any other name stops with an error that says
which. Opcodes as in PEP 307, PEP 3154 and CPython's ``pickletools``.
"""

import io
import pickletools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

# Bytes that calls may make, and the factor of the bytes read beyond: plain data grows with its
# length, while a short pickle that copies one object again and again would fill the memory.
_MOST_MADE = 1 << 26
_MOST_MADE_PER_BYTE = 16

Table = Mapping[str, Callable[..., Any] | None]
Persistent = Callable[[Any], Any]


class PickleError(ValueError):
    """Pickled data that is damaged, or asks for more than plain data."""


class ForbiddenName(PickleError):
    """Pickled data that names an object which is not allowed.

    Attributes:
        name: the forbidden name, module and name joined by a dot.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"refused: the data names {name!r}, which is not among the plain data that is read"
            " here; nothing was executed. Do not load this file with other software unless you"
            " trust where it came from"
        )
        self.name = name


@dataclass(frozen=True)
class Global:
    """A name that the data refers to, and the function called in its place."""

    name: str  # module and qualified name, joined by a dot
    # Stands in for the original; None if it may only be referred to.
    call: Callable[..., Any] | None = None


class Buildable:
    """Base of objects that a table's callable returns for a BUILD instruction to complete."""

    def build(self, state: Any) -> Any:
        """Take the state; the result replaces this object."""
        raise PickleError(f"{type(self).__name__} takes no state")


class Record(Buildable):
    """The data of an object of a foreign class, without behaviour.

    Attributes:
        name: the class.
        arguments: arguments of its constructor.
        state: state of its attributes, usually a dict.
        items: entries of an object that is also a mapping, and arguments by name.
        elements: those of an object that is also a list.
    """

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"Record({self.name})"

    def build(self, state: Any) -> "Record":
        """Keep the state."""
        self.state = state
        return self


def load(
    data: bytes,
    allowed: Table,
    recorded: Sequence[str] = (),
    persistent: Persistent | None = None,
) -> Any:
    """The object that pickled bytes describe.

    Args:
        data: one pickle.
        allowed: dotted name to the function called in its place, such as `PLAIN`; None for names
            that may only be referred to. Names become `Global` where they are not called.
        recorded: classes, modules or packages whose objects become `Record`.
        persistent: resolves persistent identifiers, which are refused without it.

    Raises:
        ForbiddenName: the data names something that is in neither.
        PickleError: the data is damaged, or uses what plain data does not need.
    """
    return load_next(io.BytesIO(data), allowed, recorded, persistent)


def load_next(
    stream: BinaryIO,
    allowed: Table,
    recorded: Sequence[str] = (),
    persistent: Persistent | None = None,
) -> Any:
    """As `load`, for the next of several pickles; the stream then stands behind it."""
    machine = _Machine(allowed, recorded, persistent)
    name, position = "START", 0
    try:
        for opcode, argument, at in pickletools.genops(stream):
            name, position = opcode.name, at or 0
            machine.position = position
            if name == "STOP":
                return machine.result()
            step = _STEPS.get(name)
            if step is None:
                raise PickleError(
                    f"the pickle uses {name}, which no checkpoint needs and no data set: refused"
                )
            step(machine, argument)
    except ForbiddenName:
        raise
    except PickleError as error:
        raise PickleError(f"{error} (byte {position} of the pickle, {name})") from error
    # Errors of decoding damaged bytes, and of table entries given wrong arguments.
    except (
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        AttributeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise PickleError(
            f"damaged pickled data: damaged at or after byte {position} ({name}):"
            f" {error or type(error).__name__}; copy the file again"
        ) from error
    raise PickleError(f"damaged pickled data: cut off after byte {position}; copy the file again")


class _Mark:
    """Mark on the stack below a variable number of items."""


_MARK = _Mark()


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(
        self, allowed: Table, recorded: Sequence[str], persistent: Persistent | None
    ) -> None:
        self.allowed = allowed
        self.recorded = recorded
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.position = self.made = 0

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise PickleError(
                f"damaged pickled data: it leaves no single object but {len(self.stack)} objects at"
                " its end"
            )
        return self.pop()

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
            raise PickleError(f"refused to change a {_kind(value)} as if a {kind.__name__}")
        return value

    def items(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                found = self.stack[start + 1 :]
                del self.stack[start:]
                return found
        raise PickleError("damaged pickled data: no mark on the stack")

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("damaged pickled data: a name is no text")
        dotted = f"{module}.{name}"
        if dotted in self.allowed:
            self.push(Global(dotted, self.allowed[dotted]))
        elif any(dotted == known or dotted.startswith(f"{known}.") for known in self.recorded):
            self.push(Global(dotted, partial(Record, dotted)))
        else:
            raise ForbiddenName(dotted)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise PickleError("damaged pickled data: arguments are no tuple")
        if not isinstance(function, Global) or function.call is None:
            raise PickleError(f"refused to call a {_kind(function)}, which is nothing to be called")
        self.push(self.counted(function.call(*arguments)))

    def counted(self, made: Any) -> Any:
        self.made += _size(made)
        if self.made > _MOST_MADE + _MOST_MADE_PER_BYTE * self.position:
            raise PickleError(f"refused to make {self.made} bytes of {self.position}")
        return made

    def call_with_names(self) -> None:
        named = self.pop()
        self.call()
        if not isinstance(named, dict):
            raise PickleError("damaged pickled data: arguments by name are no mapping")
        if named:
            self.top(Record).items.update(named)

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if isinstance(target, dict) and isinstance(state, dict):
            # Attributes beside a dictionary's items, such as the versions in a state_dict.
            self.push(target)
            return
        if not isinstance(target, Buildable):
            raise PickleError(f"refused to give a state to a {_kind(target)}")
        built = self.counted(target.build(state))
        if built is not target:
            # It was memoised just before its state was read.
            for key in reversed(self.memo):
                if self.memo[key] is target:
                    self.memo[key] = built
                    break
        self.push(built)

    def extend(self, items: list[Any]) -> None:
        top = self.stack[-1]
        (top.elements if isinstance(top, Record) else self.top(list)).extend(items)

    def add(self, items: list[Any]) -> None:
        self.top(set).update(keys(items))

    def setitems(self, items: list[Any]) -> None:
        top = self.stack[-1]
        target = top.items if isinstance(top, Record) else self.top(dict)
        target.update(zip(keys(items[::2]), items[1::2], strict=True))

    def persist(self, identifier: Any) -> None:
        if self.persistent is None:
            raise PickleError("refused: the data refers to objects outside itself")
        self.push(self.persistent(identifier))


def _size(value: Any) -> int:
    """Bytes that a new object takes by itself, about."""
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    if isinstance(value, list | tuple | dict | set | frozenset):
        return 8 * len(value)
    return value.nbytes if isinstance(value, np.ndarray) and value.base is None else 0


def _kind(value: Any) -> str:
    """Type of a value in words, without its content."""
    name = type(value).__name__
    return f"{name} of {value.name}" if isinstance(value, Global | Record) else name


def keys(values: Iterable[Any]) -> list[Any]:
    """Values that are fit for keys: hashing a deep tuple would overflow the stack.

    Raises:
        PickleError: one is a tuple or frozenset of more than two levels.
    """
    found = list(values)
    for value in found:
        if isinstance(value, tuple | frozenset) and not _is_shallow(value, 2):
            raise PickleError(f"refused: a key of type {type(value).__name__} that is nested")
    return found


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, tuple | frozenset):
        return True
    return levels > 0 and all(_is_shallow(part, levels - 1) for part in value)


Step = Callable[[_Machine, Any], Any]


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.find(module, name)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.find(module, name)


def _tuple(count: int) -> Step:
    def step(machine: _Machine, _: Any) -> None:
        taken = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(taken)))

    return step


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.items()
    machine.push({})
    machine.setitems(items)


def _put(machine: _Machine, argument: int) -> None:
    machine.memo[argument] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _nothing(machine: _Machine, _: Any) -> None:
    """Framing and protocol marks."""


_STEPS: dict[str, Step] = {
    **dict.fromkeys(
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING"
        " SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES BINBYTES8"
        " SHORT_BINBYTES BYTEARRAY8".split(),
        _Machine.push,
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
    "FROZENSET": lambda machine, _: machine.push(frozenset(keys(machine.items()))),
    # Arguments are taken off the stack before the object below them is changed.
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.items()),
    "SETITEM": lambda machine, _: machine.setitems([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.setitems(machine.items()),
    "ADDITEMS": lambda machine, _: machine.add(machine.items()),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _put),
    **dict.fromkeys(
        ["GET", "BINGET", "LONG_BINGET"],
        lambda machine, argument: machine.push(machine.memo[argument]),
    ),
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(["REDUCE", "NEWOBJ"], lambda machine, _: machine.call()),
    "NEWOBJ_EX": lambda machine, _: machine.call_with_names(),
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, argument: machine.persist(argument),
    "BINPERSID": lambda machine, _: machine.persist(machine.pop()),
}
