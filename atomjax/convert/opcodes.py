"""An interpreter of pickle opcodes that builds plain data and calls nothing.

A pickle is a program for a stack machine, two of whose instructions name a global of any module
and call it. Here a global is only ever looked up in an allow-list by its name. What is found there
is a function of this package that rebuilds data, or the record of a class that stays unknown; no
module is imported and nothing that the file names is called.

The opcodes are those that ``pickletools`` of Python's standard library documents.
"""

import pickletools
from collections.abc import Callable
from typing import Any

from atomjax.convert.errors import ConvertError, FileFormatError

MARK = object()


class Known:
    """A global of the allow-list.

    Args:
        name: "module.name" in the file.
        call: what stands for calling it; None for a global that is only referred to.
    """

    def __init__(self, name: str, call: Callable[..., Any] | None = None):
        self.name = name
        self.call = call

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Opaque:
    """An object of a class of the original code, as a record of what the file says of it.

    Attributes:
        name: "module.class".
        args: what the class was to be called with; None for the class itself.
        state: what the object's attributes were to be set to.
        items: entries of an object that is also a mapping.
        elements: elements of an object that is also a list.
    """

    def __init__(self, name: str, args: tuple | None = None):
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Rebuilt:
    """A value whose state comes after it in the file; ``set_state`` takes it."""

    def set_state(self, state: Any) -> None:
        """Takes the state."""
        raise FileFormatError(f"{type(self).__name__} has no state")


FindGlobal = Callable[[str, str], Any]
FindPersistent = Callable[[Any], Any]


def run(program: bytes, find: FindGlobal, persistent: FindPersistent) -> Any:
    """The object that a pickle describes.

    Args:
        program: the pickle.
        find: (module, name) → :class:`Known` or :class:`Opaque`; raises for everything else.
        persistent: what stands for a persistent identifier, in PyTorch files a storage.

    Raises:
        FileFormatError: the program is damaged, or uses an instruction that PyTorch never writes.
        RefusedError: from ``find``.
    """
    machine = _Machine(find, persistent)
    position = 0
    name = "START"
    try:
        for opcode, argument, at in pickletools.genops(program):
            name, position = opcode.name, at or 0
            machine.step(name, argument)
    except FileFormatError as error:
        raise FileFormatError(f"{error} (byte {position} of the pickle, {name})") from None
    except ConvertError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise FileFormatError(
            f"the pickle is damaged at or after byte {position} ({name}): {error}; fetch the file "
            "again"
        ) from None
    if not machine.stopped:
        raise FileFormatError(f"the pickle is cut off after byte {position}; fetch the file again")
    return machine.stack[-1]


class _Machine:
    """Stack and memo; one method or table entry for every instruction that is taken."""

    def __init__(self, find: FindGlobal, persistent: FindPersistent):
        self.find = find
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.stopped = False
        self.containers = {
            "EMPTY_LIST": list,
            "EMPTY_DICT": dict,
            "EMPTY_SET": set,
            "EMPTY_TUPLE": tuple,
        }
        self.constants = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

    def step(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _MEMO_PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in _MEMO_GETS:
            self.stack.append(self.memo[argument])
        elif name in self.containers:
            self.stack.append(self.containers[name]())
        elif name in self.constants:
            self.stack.append(self.constants[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(self.stack) < count:
                raise FileFormatError("the pickle is damaged: a tuple lacks elements")
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name not in _IGNORED:
            method = _METHODS.get(name)
            if method is None:
                raise FileFormatError(f"the pickle uses {name}, which no checkpoint needs: refused")
            method(self, argument)

    def pop_mark(self) -> list[Any]:
        """What was put on the stack since the last mark, which goes too."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise FileFormatError("the pickle is damaged: a mark is missing")

    def do_mark(self, _) -> None:
        self.stack.append(MARK)

    def do_stop(self, _) -> None:
        if len(self.stack) != 1 or self.stack[0] is MARK:
            raise FileFormatError("the pickle is damaged: it leaves no single object")
        self.stopped = True

    def do_pop(self, _) -> None:
        self.stack.pop()

    def do_pop_mark(self, _) -> None:
        self.pop_mark()

    def do_duplicate(self, _) -> None:
        self.stack.append(self.stack[-1])

    def do_memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_list(self, _) -> None:
        self.stack.append(self.pop_mark())

    def do_tuple(self, _) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def do_dict(self, _) -> None:
        self.stack.append(_pairs(self.pop_mark()))

    def do_frozenset(self, _) -> None:
        self.stack.append(frozenset(self.pop_mark()))

    def do_append(self, _) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def do_appends(self, _) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    def do_set_item(self, _) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _update(self.stack[-1], {key: value})

    def do_set_items(self, _) -> None:
        pairs = _pairs(self.pop_mark())
        _update(self.stack[-1], pairs)

    def do_add_items(self, _) -> None:
        values = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise FileFormatError("the pickle is damaged: elements are added to what is no set")
        self.stack[-1].update(values)

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.find(module, name))

    def do_stack_global(self, _) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise FileFormatError("the pickle is damaged: the name of a global is no text")
        self.stack.append(self.find(module, name))

    def do_persistent(self, _) -> None:
        self.stack.append(self.persistent(self.stack.pop()))

    def do_call(self, _) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        self.stack.append(_rebuild(target, arguments))

    def do_new_with_keywords(self, _) -> None:
        keywords, arguments, target = (self.stack.pop() for _ in range(3))
        value = _rebuild(target, arguments)
        if keywords:
            if not isinstance(value, Opaque):
                raise FileFormatError(f"{target} is given arguments by name: refused")
            value.items.update(keywords)
        self.stack.append(value)

    def do_build(self, _) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.state = state
        elif isinstance(target, Rebuilt):
            target.set_state(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):
            # What is left is the attributes that PyTorch hangs on a state_dict, its `_metadata`.
            raise FileFormatError(f"the pickle sets attributes of a {type(target).__name__}")


def _rebuild(target: Any, arguments: Any) -> Any:
    if not isinstance(arguments, tuple):
        raise FileFormatError("the pickle is damaged: arguments are no tuple")
    if isinstance(target, Opaque) and target.args is None:
        return Opaque(target.name, arguments)
    if isinstance(target, Known) and target.call is not None:
        return target.call(*arguments)
    raise FileFormatError(f"the pickle calls {target!r}, which is nothing to be called: refused")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise FileFormatError("the pickle is damaged: a key has no value")
    return dict(zip(values[::2], values[1::2], strict=True))


def _update(target: Any, pairs: dict[Any, Any]) -> None:
    if isinstance(target, Opaque):
        target = target.items
    if not isinstance(target, dict):
        raise FileFormatError("the pickle is damaged: entries are set in what is no mapping")
    target.update(pairs)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Opaque):
        target = target.elements
    if not isinstance(target, list):
        raise FileFormatError("the pickle is damaged: elements are appended to what is no list")
    target.extend(values)


_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
_MEMO_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MEMO_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME"})
_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.do_mark,
    "STOP": _Machine.do_stop,
    "POP": _Machine.do_pop,
    "POP_MARK": _Machine.do_pop_mark,
    "DUP": _Machine.do_duplicate,
    "MEMOIZE": _Machine.do_memoize,
    "LIST": _Machine.do_list,
    "TUPLE": _Machine.do_tuple,
    "DICT": _Machine.do_dict,
    "FROZENSET": _Machine.do_frozenset,
    "APPEND": _Machine.do_append,
    "APPENDS": _Machine.do_appends,
    "SETITEM": _Machine.do_set_item,
    "SETITEMS": _Machine.do_set_items,
    "ADDITEMS": _Machine.do_add_items,
    "GLOBAL": _Machine.do_global,
    "STACK_GLOBAL": _Machine.do_stack_global,
    "BINPERSID": _Machine.do_persistent,
    "REDUCE": _Machine.do_call,
    "NEWOBJ": _Machine.do_call,
    "NEWOBJ_EX": _Machine.do_new_with_keywords,
    "BUILD": _Machine.do_build,
}
