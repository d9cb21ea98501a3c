"""Compiled programs as lists of kernels, from their text: FLOP and memory traffic of each."""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Bits of an element.
_BITS = {"pred": 8, "token": 0, "u4": 4, "s4": 4}
_ARRAY = re.compile(r"\b(pred|token|bf16|f8\w+|[suf]\d+|c\d+)\[([\d,]*)\](\{[^{}]*\})?")
# Part of a layout that places the array on the chip itself.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_OPERAND = re.compile(r"%([\w.\-]+)")
# Operations that start no kernel.
_NO_KERNELS = frozenset(
    "parameter constant bitcast tuple get-tuple-element opt-barrier after-all partition-id".split()
)
# Calls that only state facts of an array to XLA.
_HINTS = re.compile("ConcatBitcast|AllocateBuffer|AssumeGather")
# Operations that read as much of their first operand as they return.
_PARTS = frozenset(["slice", "dynamic-slice", "gather"])
_RENAMES = frozenset(["bitcast", "reshape", "copy", "convert"])


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: name of its result.
        result: the type as it is written.
        opcode: name of its operation.
        operands: names.
        line: all of it.
    """

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    line: str


@dataclass(frozen=True)
class Kernel:
    """One kernel: the unit that a compiled program launches.

    Attributes:
        name: name of its result.
        opcode: "fusion", "custom-call", "all-reduce-start" and so on.
        source: part of the model that it comes from, where that is known.
        line: its line of the program's text.
        flops: FLOP of its matrix products, except on TPUs, where these are convolutions.
        moved: bytes read and written.
        times: number of runs, more than one in a loop.
    """

    name: str
    opcode: str
    source: str
    line: str
    flops: float
    moved: float
    times: int


def arrays(written: str, *, on_chip: bool = True) -> list[tuple[int, tuple[int, ...]]]:
    """(bytes, shape) of each array of a type as it is written.

    Args:
        written: such as "(f32[8,4]{1,0}, s32[])".
        on_chip: whether those count that lie on the chip, not in its memory.
    """
    found = []
    for kind, sizes, layout in _ARRAY.findall(written):
        if not on_chip and _ON_CHIP.search(layout):
            continue
        shape = tuple(int(n) for n in sizes.split(",") if n)
        digits = re.search(r"\d+", kind)
        bits = _BITS[kind] if kind in _BITS else int(digits[0] if digits else 0)
        found.append((math.prod(shape) * bits // 8, shape))
    return found


def num_bytes(written: str) -> int:
    """Bytes in memory of all arrays of a type as it is written."""
    return sum(size for size, _ in arrays(written, on_chip=False))


class Program:
    """The computations of a compiled program.

    Args:
        text: text of the program, from ``compiled.as_text()``.
    """

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if begin := _COMPUTATION.match(line):
                current = self.computations[begin[2]] = {}
                if begin[1]:
                    self.entry = begin[2]
            elif found := _INSTRUCTION.match(line):
                name, result, opcode, rest = found.groups()
                operands = tuple(_OPERAND.findall(rest.split("), ")[0]))
                current[name] = Instruction(name, result, opcode, operands, line)

    def kernels(self, computation: str = "", times: int = 1) -> Iterator[Kernel]:
        """The kernels that one call of the program starts, in the order of its schedule.

        Loops are gone through once, with the number of their turns where XLA knows it.
        """
        body = self.computations[computation or self.entry]
        for it in body.values():
            if it.opcode in _NO_KERNELS or it.opcode.endswith("-done"):
                continue
            if it.opcode == "custom-call" and _HINTS.search(it.line):
                continue
            if it.opcode == "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', it.line)
                yield from self.kernels(_called(it, "body"), times * int(turns[1] if turns else 1))
            elif it.opcode == "call":
                yield from self.kernels(_called(it, "to_apply"), times)
            else:
                source = re.search(r'op_name="([^"]*)"', it.line)
                yield Kernel(
                    name=it.name,
                    opcode=it.opcode,
                    source=source[1] if source else "",
                    line=it.line,
                    flops=self._flops(it, body),
                    moved=self._moved(it, body),
                    times=times,
                )

    def _flops(self, it: Instruction, body: dict[str, Instruction]) -> float:
        if it.opcode == "fusion":
            return self._flops_inside(_called(it, "calls"))
        if it.opcode == "dot" or (it.opcode == "custom-call" and "_dimension_numbers" in it.line):
            depth = re.search(r'lhs_contracting_dim\w+"?[=:][{\[]([\d",]*)', it.line)
            axes = re.findall(r"\d+", depth[1]) if depth else []
            (_, left), *_ = arrays(body[it.operands[0]].result)
            (_, out), *_ = arrays(it.result)
            return 2.0 * math.prod(out) * math.prod(left[int(axis)] for axis in axes)
        return 0.0

    @functools.cache  # noqa: B019 - a program lives as long as its benchmark
    def _flops_inside(self, computation: str) -> float:
        body = self.computations[computation]
        return sum(self._flops(it, body) for it in body.values())

    def _moved(self, it: Instruction, body: dict[str, Instruction]) -> float:
        # Workspace of library calls is bytes without a meaning, and mostly not touched.
        result = re.sub(r"\bs8\[\d+\]", "", it.result) if it.opcode == "custom-call" else it.result
        sizes = [num_bytes(body[name].result) if name in body else 0 for name in it.operands]
        if it.opcode in ("copy-start", "slice-start"):
            # From memory to the chip or back; the rest of the result describes the transfer.
            return float(min(size for size, shape in arrays(it.result) if shape))
        if it.opcode.endswith("-start"):
            return 2.0 * sum(sizes)
        if it.opcode in _PARTS:
            return 2.0 * num_bytes(result) + sum(sizes[1:])
        if it.opcode == "fusion":
            read = self._read_inside(_called(it, "calls"))
            pairs = zip(sizes, read, strict=True)
            sizes = [size if part is None else min(size, part) for size, part in pairs]
        return float(num_bytes(result) + sum(sizes))

    @functools.cache  # noqa: B019
    def _read_inside(self, computation: str) -> tuple[float | None, ...]:
        """Bytes that a fusion reads of each parameter; None is all of it."""
        body = self.computations[computation]
        readers: dict[str, list[Instruction]] = {}
        for it in body.values():
            for name in it.operands:
                readers.setdefault(name, []).append(it)

        def part(name: str) -> float | None:
            total = 0.0
            for reader in readers.get(name, []):
                if reader.opcode in _PARTS and reader.operands[0] == name:
                    total += num_bytes(reader.result)
                elif reader.opcode in _RENAMES and (inner := part(reader.name)) is not None:
                    total += inner
                else:
                    return None
            return total

        parameters = [it for it in body.values() if it.opcode == "parameter"]
        number = {it.name: int(it.line.split("parameter(")[1].split(")")[0]) for it in parameters}
        return tuple(part(name) for name in sorted(number, key=lambda name: number[name]))


def _called(it: Instruction, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", it.line)
    if not found:
        raise ValueError(f"no {attribute} in {it.line[:200]!r}: XLA's text has changed")
    return found[1]


def kernels_of(compiled: Any) -> list[Kernel] | None:
    """The kernels of a compiled program; None, said in a line, where its text is not understood."""
    try:
        return list(Program(compiled.as_text()).kernels())
    except (LookupError, ValueError) as error:
        # A release of XLA that writes its programs otherwise shall not cost the measurements.
        print(f"kernels are not counted, XLA's text is not understood: {error!r}")
        return None
