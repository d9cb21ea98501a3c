"""Pickled data is parsed, never executed."""

import io
import os
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from atomjax.safe_pickle import (
    ARRAYS,
    PLAIN,
    TENSORS,
    ForbiddenName,
    Global,
    PickleError,
    Record,
    load,
    load_next,
)
from tests.safe_pickle.programs import call, mapping, number, text

VALUES = {
    "none": None,
    "numbers": [1, -1, 255, 70000, 2**40, 2**80, -(2**70), 1.5, float("-inf"), True, False],
    "text": ["é", "x" * 300, b"\x00\xff", b"y" * 300, bytearray(b"z")],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "sets": [{1, 2}, frozenset({"a"}), set()],
    "dicts": OrderedDict(a={"b": {}}),
    "complex": 1 + 2j,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(protocol: int) -> None:
    assert load(pickle.dumps(VALUES, protocol), PLAIN) == VALUES


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(6, dtype=">i4").reshape(3, 2).T,
        np.array(3.5),
        np.array(["H", "He"]),
        np.array(["H" * 12_000]),
        np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        np.zeros((0, 3), np.float32),
        np.float64(2.5),
        np.array([True, False]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arrays_come_back(protocol: int, array: np.ndarray) -> None:
    found = load(pickle.dumps([array, array], protocol), {**PLAIN, **ARRAYS})
    assert found[0].dtype == array.dtype
    np.testing.assert_array_equal(found[0], array)
    assert found[1] is found[0]


def test_shared_and_circular_objects_keep_their_identity() -> None:
    value: list = [[1]]
    value += [value, value[0]]
    found = load(pickle.dumps(value), PLAIN)
    assert found[1] is found
    assert found[2] is found[0]


def test_several_pickles_in_a_row() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    assert [load_next(stream, {}), load_next(stream, {})] == [1, "two"]
    assert stream.read() == b"rest"


class Runs:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("PWNED",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_functions_are_refused_by_name_and_not_run(protocol, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PickleError, match=r"refused: the data names '(posix|nt)\.mkdir'"):
        load(pickle.dumps(Runs(), protocol), TENSORS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cos\nsystem\n(S'x'\ntR.", "'os.system'"),
        (b"(S'x'\nios\nsystem\n.", "uses INST, which no checkpoint needs and no data set"),
        (b"\x97.", "uses NEXT_BUFFER"),
        (b"c__builtin__\neval\n.", "'__builtin__.eval'"),
        (b"\x82\x01.", "EXT1"),
        (b"Pkey\n.", "objects outside itself"),
        (b"c__builtin__\nlist\nc__builtin__\nlist\n\x85b.", "give a state to a Global"),
        (b"K\x01)R.", "refused to call a int"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "a int where bytes belong"),
        (b"K\x01K\x02a.", "change a int as if a list"),
        (b"}((tt\x85K\x01s.", "a key of type tuple|damaged"),
        (b"]" + text("a") + b"R.", "arguments are no tuple"),
        (b")" + b")R.", "call a tuple, which is nothing to be called"),
        (b"c__builtin__\nint\n)R.", "call a Global of __builtin__.int"),
        (b"cours.data\nRun\n)R)R.", "call a Record of ours.data.Run"),
        (b"cours\nRun\n)}" + text("a") + b"]s\x92b.", "damaged"),
        (b"c__builtin__\nlist\n)}" + text("a") + b"Ns\x92.", "change a list as if a Record"),
        (b"cours\nRun\n))\x92.", "arguments by name are no mapping"),
        (b"]N.", "leaves no single object but 2 objects at its end"),
        (b"(.", "an object is missing"),
        (b"(" + text("a") + b"u.", "damaged"),
        (b"0.", "damaged"),
        (b"h\x09.", "damaged"),
        (b"(1.", "damaged"),
        (b"K", "damaged"),
        (b"", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc", "damaged"),
    ],
)
def test_bad_programs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PickleError, match=message):
        load(data, PLAIN, ["ours"])


@pytest.mark.parametrize("name", ["list", "bytearray"])
def test_short_pickles_do_not_fill_the_memory(name: str) -> None:
    originals = {"list": b"(" + b"K\1" * 20_000 + b"l", "bytearray": b"B\0\0\2\0" + bytes(1 << 17)}
    copy = f"cbuiltins\n{name}\nh\0\x85R".encode("latin1")
    few, many = (
        b"\x80\3" + originals[name] + b"q\0" + b"0(" + copy * count + b"l." for count in (100, 1000)
    )
    assert len(load(few, PLAIN)) == 100
    with pytest.raises(PickleError, match=r"refused to make \d+ bytes of \d+ \(byte \d+"):
        load(many, PLAIN)


def test_damage_anywhere_is_an_error_of_ours_or_harmless() -> None:
    written = pickle.dumps([np.arange(5), {"a": 1.5}, "text"], protocol=4)
    made = mapping(
        scalar=call("numpy.dtype", text("f8")),
        config=b"cours.modules\nConfig\n)\x81}(" + text("decay") + number(1) + b"ub",
        raw=call("_codecs.encode", text("abc"), text("latin1")),
        array=call("builtins.bytearray", text("abc"), text("latin-1")),
    )
    rng = np.random.default_rng(0)
    for data in (written, made + b"."):
        for end in range(len(data)):
            with pytest.raises(PickleError):
                load(data[:end], TENSORS, ["ours"])
        refused = 0
        for _ in range(400):
            damaged = np.frombuffer(data, np.uint8).copy()
            where = rng.integers(0, len(data), rng.integers(1, 4))
            damaged[where] = rng.integers(0, 256, len(where))
            try:
                load(damaged.tobytes(), TENSORS, ["ours"])
            except PickleError:
                refused += 1
        assert 100 < refused < 400


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(PickleError, match="only numbers and text"):
        load(pickle.dumps(np.array([None, {}], dtype=object)), {**PLAIN, **ARRAYS})


def test_foreign_classes_become_records_where_they_are_listed() -> None:
    pair = defaultdict(int)
    pair["a"] = 1
    data = pickle.dumps([pair, Runs], protocol=2)
    name = f"{Runs.__module__}.Runs"
    counts, kind = load(data, PLAIN, [name])
    assert counts == {"a": 1}
    assert isinstance(kind, Global)
    assert kind.name == name
    with pytest.raises(ForbiddenName, match="refused") as error:
        load(data, PLAIN, [name[:-1]])
    assert error.value.name == name


def test_records_keep_what_the_data_says_of_them() -> None:
    made = b"cours.data\nList\n" + number(1) + b"\x85}" + text("by") + text("name") + b"s\x92"
    filled = b"(" + number(2) + number(3) + b"e(" + text("key") + number(4) + b"u}b."
    found = load(made + filled, PLAIN, ["ours"])
    assert isinstance(found, Record)
    assert (found.name, found.arguments, found.state) == ("ours.data.List", (1,), {})
    assert (found.elements, found.items) == ([2, 3], {"by": "name", "key": 4})
    old = call("copy_reg._reconstructor", b"cours\nA\n", b"c__builtin__\nobject\n", b"N")
    assert load(old + b".", PLAIN, ["ours"]).name == "ours.A"
    with pytest.raises(PickleError, match="refused to make an object of"):
        load(old + b".", {**PLAIN, "ours.A": None})


def test_keys_are_hashed_where_that_is_safe() -> None:
    nested = {((1, 2), "a"): 1, frozenset({(3, 4)}): 2}
    assert load(pickle.dumps(nested), PLAIN) == nested
    deep = b"}(" + b")" + b"\x85" * 10**5 + b"Nu."
    with pytest.raises(PickleError, match="a key of type tuple that is nested"):
        load(deep, PLAIN)
