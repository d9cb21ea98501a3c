"""Files of torch.save: what is right is read in place, everything else is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from atomjax.safe_pickle import PickleError, TorchArchive, is_legacy, load_torch_file
from tests.safe_pickle.programs import (
    archive,
    call,
    mapping,
    number,
    numbers,
    storage,
    tensor,
    text,
)
from tests.safe_pickle.torch_pickles import Tensor, write_legacy_archive, write_torch_archive

GRID = np.arange(6, dtype=np.float32)


def load(path: Path, program: bytes, **options):
    return TorchArchive(archive(path / "file.pt", program, **options)).load(["jmp"])


def test_tensors_are_views_of_the_file(tmp_path):
    program = mapping(
        plain=tensor((2, 3), (3, 1)),
        transposed=tensor((3, 2), (1, 3)),
        part=tensor((2,), (2,), offset=1),
        scalar=tensor((), (), offset=4),
        empty=tensor((0, 3), (3, 1)),
    )
    loaded = load(tmp_path, program)
    np.testing.assert_array_equal(loaded["plain"], GRID.reshape(2, 3))
    np.testing.assert_array_equal(loaded["transposed"], GRID.reshape(2, 3).T)
    np.testing.assert_array_equal(loaded["part"], [1, 3])
    assert loaded["scalar"] == 4
    assert loaded["empty"].shape == (0, 3)
    assert np.shares_memory(loaded["plain"], loaded["part"])
    with pytest.raises(ValueError, match="read-only"):
        loaded["plain"][0, 0] = 1


def test_byte_order_of_the_writing_machine(tmp_path):
    loaded = load(tmp_path, tensor((6,), (1,)), data=GRID.astype(">f4"), order="big")
    np.testing.assert_array_equal(loaded, GRID)
    with pytest.raises(PickleError, match="unknown byte order 'middle'"):
        load(tmp_path, tensor((6,), (1,)), order="middle")


def test_parameters_and_typed_tensors(tmp_path):
    hooks = call("collections.OrderedDict")
    parameter = call("torch._utils._rebuild_parameter", tensor((6,), (1,)), b"\x88", hooks)
    untyped = storage(24, kind="UntypedStorage").replace(b"ctorch\n", b"ctorch.storage\n")
    parts = [number(1), b"(" + number(2) + b"t", b"(" + number(1) + b"t", b"\x89", hooks]
    typed = call("torch._utils._rebuild_tensor_v3", untyped, *parts, b"ctorch\nfloat32\n")
    loaded = load(tmp_path, mapping(parameter=parameter, typed=typed))
    np.testing.assert_array_equal(loaded["parameter"], GRID)
    np.testing.assert_array_equal(loaded["typed"], [1, 2])


def test_numbers_and_numpy_values(tmp_path):
    dtype = call("numpy.dtype", text("f8"), b"\x89", b"\x88") + b"(" + number(3) + text("<")
    dtype += b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    raw = call("_codecs.encode", text(np.float64(2.5).tobytes().decode("latin1")), text("latin1"))
    scalar = call("numpy._core.multiarray.scalar", dtype, raw)
    array = call("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\n", b"N", b"N")
    array += b"(" + number(1) + b"(" + number(1) + b"t" + dtype + b"\x89" + raw + b"tb"
    loaded = load(tmp_path, mapping(scalar=scalar, array=array, size=call("torch.Size", b")")))
    assert loaded["scalar"] == 2.5
    np.testing.assert_array_equal(loaded["array"], [2.5])
    assert loaded["size"] == ()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (tensor((7,), (1,)), "reaches beyond its storage of 6 elements"),
        (tensor((2, 3), (4, 1)), "reaches beyond"),
        (tensor((6,), (1,), offset=1), "reaches beyond"),
        (tensor((2,), (2**31 - 1,)), "reaches beyond"),
        (tensor((2,), (-1,), offset=5), "is damaged"),
        (tensor((6,), (1,), offset=-1), "is damaged"),
        (tensor((6,), (1, 1)), "is damaged"),
        (tensor((6,), (1,), count=7), "should have 28 bytes and has 24"),
        (tensor((6,), (1,), key="1"), "lacks its entry archive/data/1"),
        (tensor((6,), (1,), key="../../version"), "lacks its entry"),
        (storage(6, kind="QInt8Storage"), "QInt8Storage"),
        (text("a") + b"Q", "unknown kind of stored data"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "damaged"),
        (tensor((6,), (1,), kind="UntypedStorage", count=24), "no storage of a known type"),
        (tensor((6,), (1,), kind="BFloat16Storage"), "BFloat16Storage"),
        (call("torch._tensor._rebuild_from_type_v2", b"NN)N"), "rebuilt in an unknown way"),
    ],
)
def test_damaged_and_crafted_files_are_refused(tmp_path, program, message):
    with pytest.raises(PickleError, match=message):
        load(tmp_path, program)


def test_bytes_changed_at_random_are_read_or_refused(tmp_path):
    """Whatever the pickle says, the answer is an object or one of our errors."""
    program = mapping(
        weight=tensor((2, 3), (3, 1)),
        scalar=call("numpy.dtype", text("f8")),
        size=call("torch.Size", numbers(1, 2)),
    )
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        changed = np.frombuffer(program, np.uint8).copy()
        changed[rng.integers(len(changed))] = rng.integers(256)
        try:
            load(tmp_path, changed.tobytes())
            outcomes["read"] += 1
        except PickleError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10


def test_truncated_pickle(tmp_path):
    path = archive(tmp_path / "file.pt", b"(" + text("a long word"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02X\xff\x00\x00\x00abc")
    with pytest.raises(PickleError, match="damaged at or after byte"):
        TorchArchive(path).load()


def test_both_formats_are_read_alike(tmp_path):
    base = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    content = {"weight": Tensor(base), "count": Tensor([2, 3], np.int64), "empty": Tensor([])}
    for write in (write_torch_archive, write_legacy_archive):
        path = tmp_path / "file.pt"
        write(path, content)
        assert is_legacy(path) == (write is write_legacy_archive)
        loaded = load_torch_file(path)
        np.testing.assert_array_equal(loaded["weight"], base)
        assert loaded["count"].tolist() == [2, 3]
        assert loaded["empty"].shape == (0,)
        with pytest.raises(ValueError, match="read-only"):
            loaded["weight"][0, 0] = 1


def test_damaged_files_of_the_old_format_are_refused(tmp_path):
    path = tmp_path / "file.pt"
    write_legacy_archive(path, [Tensor(np.arange(4), np.int64)])
    data = path.read_bytes()
    for damaged, message in (
        (data[:-9], "storage 0 has 2 of 4 elements"),
        (data[:-40] + data[-32:] + b"12345678", "says 0: the file is cut short or damaged"),
        (data.replace(b"K\x04N", b"K\xffN"), "storage 0 of 255 elements is larger than the file"),
        (data.replace(b"X\x01\0\0\x000q\x01a.", b"X\x01\0\0\x002q\x01a."), "does not fit the te"),
        (data.replace(b"M\xe9\x03.", b"M\xe8\x03."), "not in PyTorch's format of protocol 1001"),
        (data.replace(b"\x88s.", b"\x89s."), "big-endian machine"),
    ):
        assert damaged != data, message
        path.write_bytes(damaged)
        with pytest.raises(PickleError, match=message):
            load_torch_file(path)
    for end in range(16, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(PickleError):
            load_torch_file(path)
