"""Pickled data is parsed, never executed."""

import io
import os
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from atomjax.structures.pickled_arrays import ARRAYS, TENSORS, storage_from, tensor
from atomjax.structures.pickles import PLAIN, Global, PickleError, Record, load, load_next, record
from tests.structures.torch_pickles import Tensor, legacy_file, torch_names

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
        np.zeros((0, 3), np.float32),
        np.float64(2.5),
        np.array([True, False]),
    ],
    ids=str,
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
        (b"(S'x'\nios\nsystem\n.", "'os.system'"),
        (b"c__builtin__\neval\n.", "'__builtin__.eval'"),
        (b"\x82\x01.", "EXT1"),
        (b"Pkey\n.", "objects outside itself"),
        (b"c__builtin__\nlist\nc__builtin__\nlist\n\x85b.", "give a state to a Global"),
        (b"K\x01)R.", "refused to call a int"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "a int where bytes belong"),
        (b"K\x01K\x02a.", "change a int as if a list"),
        (b"}((tt\x85K\x01s.", "a key of type tuple|damaged"),
        (b"]N.", "2 objects at its end"),
        (b"h\x09.", "damaged"),
        (b"(1.", "damaged"),
        (b"K", "damaged"),
        (b"", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc", "damaged"),
    ],
)
def test_bad_programs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PickleError, match=message):
        load(data, PLAIN)


def test_damage_anywhere_is_an_error_of_ours_or_harmless() -> None:
    data = pickle.dumps([np.arange(5), {"a": 1.5}, "text"], protocol=4)
    allowed = {**PLAIN, **ARRAYS}
    for end in range(len(data)):
        with pytest.raises(PickleError):
            load(data[:end], allowed)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            load(bytes(damaged), allowed)
        except PickleError:
            refused += 1
    assert refused > 100


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(PickleError, match="only numbers and text"):
        load(pickle.dumps(np.array([None, {}], dtype=object)), {**PLAIN, **ARRAYS})


def test_foreign_classes_become_records_where_the_table_says_so() -> None:
    pair = defaultdict(int)
    pair["a"] = 1
    data = pickle.dumps([pair, Runs], protocol=2)
    name = f"{Runs.__module__}.Runs"
    counts, kind = load(data, {**PLAIN, name: record(name)})
    assert counts == {"a": 1}
    assert isinstance(kind, Global)
    assert kind.name == name
    made = kind.call(1)
    assert isinstance(made, Record)
    assert made.build({"x": 2}).state == {"x": 2}


def test_tensors_become_arrays() -> None:
    with torch_names():
        data = pickle.dumps(
            {"f": Tensor(np.arange(6.0).reshape(2, 3)), "b": Tensor([True, False], bool)}
        )
    found = load(data, TENSORS)
    assert found["f"].dtype == np.float32
    np.testing.assert_array_equal(found["f"], np.arange(6.0).reshape(2, 3))
    assert found["b"].tolist() == [True, False]


def test_tensors_are_windows_with_bounds() -> None:
    storage = np.arange(12.0)
    np.testing.assert_array_equal(
        tensor(storage, 1, (2, 3), (1, 4)), [[1.0, 5.0, 9.0], [2.0, 6.0, 10.0]]
    )
    assert tensor(storage, 0, (0, 3), (3, 1)).shape == (0, 3)
    with pytest.raises(PickleError, match="reaches element 12 of a storage of 12"):
        tensor(storage, 0, (2, 3), (10, 1))
    with pytest.raises(PickleError, match="do not describe a window"):
        tensor(storage, 0, (2,), (-1,))


def test_storages_are_read_alike_with_and_without_the_shortcut() -> None:
    with torch_names():
        files = [legacy_file(np.arange(count, dtype=np.int64)) for count in (0, 3, 300, 70000)]
    for file in files:
        # Another way to write the same: the key memoised elsewhere.
        unusual = file.replace(b"q\x02X\x03\x00\x00\x00cpu", b"q\x09X\x03\x00\x00\x00cpu")
        assert unusual != file
        np.testing.assert_array_equal(storage_from(unusual), storage_from(file))


def test_damaged_storages_are_refused() -> None:
    with torch_names():
        file = legacy_file(np.arange(4.0))
    np.testing.assert_array_equal(storage_from(file), np.arange(4.0))
    with pytest.raises(PickleError, match="31 bytes for 4 numbers of 8 bytes"):
        storage_from(file[:-1])
    with pytest.raises(PickleError, match="not in PyTorch's format"):
        storage_from(pickle.dumps(1) + pickle.dumps(2))
