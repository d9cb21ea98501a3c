"""Tensors that bring their storages along."""

import pickle

import numpy as np
import pytest

from atomjax.safe_pickle import TENSORS, PickleError, load
from atomjax.safe_pickle.tensors import storage_from, tensor
from tests.safe_pickle.torch_pickles import Tensor, legacy_file, torch_names


def test_tensors_become_arrays() -> None:
    with torch_names():
        data = pickle.dumps(
            {"f": Tensor(np.arange(6.0).reshape(2, 3)), "b": Tensor([True, False], bool)}
        )
    found = load(data, TENSORS)
    assert found["f"].dtype == np.float32
    np.testing.assert_array_equal(found["f"], np.arange(6.0).reshape(2, 3))
    assert found["b"].tolist() == [True, False]


@pytest.mark.parametrize("name", ["torch.device", "numpy.dtype", "torch._utils._rebuild_tensor_v2"])
def test_messages_do_not_fill_the_memory(name: str) -> None:
    """A tuple of two of a tuple of two ..., 34 times: 100 GB of text from 100 bytes."""
    module, _, attribute = name.rpartition(".")
    deep = b")" + b"2\x86" * 34
    program = f"c{module}\n{attribute}\n".encode() + deep + (b"\x85R." if "dt" in name else b"R.")
    with pytest.raises(PickleError) as caught:
        load(program, TENSORS)
    assert len(str(caught.value)) < 1000


def test_tensors_are_windows_with_bounds() -> None:
    storage = np.arange(12.0)
    np.testing.assert_array_equal(
        tensor(storage, 1, (2, 3), (1, 4)), [[1.0, 5.0, 9.0], [2.0, 6.0, 10.0]]
    )
    assert tensor(storage, 0, (0, 3), (3, 1)).shape == (0, 3)
    assert tensor(storage, 3, (40, 3), (0, 1))[39].tolist() == [3.0, 4.0, 5.0]
    with pytest.raises(PickleError, match="repeats the 12 elements of its storage: refused"):
        tensor(storage, 0, (1 << 40,), (0,))
    with pytest.raises(PickleError, match="reaches beyond its storage of 12 elements"):
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
