"""Reading PyTorch's files: what is right is read in place, everything else is refused."""

import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.convert.errors import ConvertError, FileFormatError, RefusedError
from atomjax.convert.torch_file import TorchFile
from atomjax.convert.torch_writer import write_torch_file
from atomjax.safe_pickle import Record
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

GRID = np.arange(6, dtype=np.float32)


def load(path: Path, program: bytes, **options):
    return TorchFile(archive(path / "file.pt", program, **options)).load()


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


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("BFloat16Storage", jnp.bfloat16), ("HalfStorage", np.float16), ("LongStorage", np.int64),
     ("DoubleStorage", np.float64), ("BoolStorage", np.bool_)],
)  # fmt: skip
def test_element_types(tmp_path, kind, dtype):
    data = np.array([0, 1, 1, 0, 1, 1]).astype(dtype)
    loaded = load(tmp_path, tensor((6,), (1,), kind=kind), data=data)
    assert loaded.dtype == data.dtype
    np.testing.assert_array_equal(loaded, data)


def test_byte_order_of_the_writing_machine(tmp_path):
    loaded = load(tmp_path, tensor((6,), (1,)), data=GRID.astype(">f4"), order="big")
    np.testing.assert_array_equal(loaded, GRID)
    with pytest.raises(FileFormatError, match="unknown byte order 'middle'"):
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


def test_classes_of_known_training_codes_are_recorded(tmp_path):
    config = b"cjmp.modules.ema\nEMAConfig\n)\x81}(" + text("decay") + number(1) + b"ub"
    path = call("pathlib.PosixPath", text("/"), text("data"))
    loaded = load(tmp_path, mapping(config=config, path=path))
    assert isinstance(loaded["config"], Record)
    assert (loaded["config"].name, loaded["config"].state) == (
        "jmp.modules.ema.EMAConfig",
        {"decay": 1},
    )
    assert loaded["path"].arguments == ("/", "data")


@pytest.mark.parametrize(
    "name",
    ["posix.system", "builtins.eval", "builtins.getattr", "builtins.__import__", "os.path.join",
     "torch.load", "torch.hub.load", "torch._utils._rebuild_sparse_tensor", "functools.partial",
     "jmpx.run", "typing_evil.run", "numpy.load", "torch.nn.Linear"],
)  # fmt: skip
def test_anything_else_is_refused_by_name(tmp_path, name):
    with pytest.raises(RefusedError, match=rf"file\.pt: the file asks for {name}, .*Nothing was"):
        load(tmp_path, mapping(weight=tensor((6,), (1,)), other=call(name, text("touch x"))))


def test_hostile_file_is_refused_and_leaves_nothing(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError, match=r"posix\.system"):
        TorchFile(shared / "data" / "hostile.pt").load()
    assert list(tmp_path.iterdir()) == []


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
        (b"(" + text("a") + b"u", "damaged"),
        (b"0", "damaged"),
        (b"h\x05", "damaged"),
        (b"]" + text("a") + b"R", "arguments are no tuple"),
        (b")" + b")R", "nothing to be called"),
        (b"NN", "leaves no single object"),
        (b"cjmp\nrun\n)R)R", "jmp.run"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "damaged"),
        (b"\x97", "NEXT_BUFFER, which no checkpoint needs"),
        (b"(ijmp.a\nB\n", "INST, which no checkpoint needs"),
        (b"\x82\x01", "EXT1"),
    ],
)
def test_damaged_and_crafted_files_are_refused(tmp_path, program, message):
    with pytest.raises(ConvertError, match=message) as error:
        load(tmp_path, program)
    assert "file.pt" in str(error.value)


def test_files_that_are_no_archives(tmp_path):
    path = tmp_path / "file.pt"
    with pytest.raises(FileFormatError, match=r"file\.pt is not a file; give"):
        TorchFile(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(FileFormatError, match="compare its size with the publisher's"):
        TorchFile(path)
    path.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    with pytest.raises(FileFormatError, match=r"before PyTorch 1\.6.*torch\.save\(torch\.load"):
        TorchFile(path)
    with pytest.raises(FileFormatError, match="is compressed or encrypted"):
        load(tmp_path, b"N", compression=zipfile.ZIP_DEFLATED)
    archive(path, b"N", root="a/b/")
    with pytest.raises(FileFormatError, match=r"0 entries data\.pkl"):
        TorchFile(path)
    archive(path, tensor((6,), (1,)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError):
        TorchFile(path)


def test_bytes_changed_at_random_are_read_or_refused(tmp_path):
    """Whatever the pickle says, the answer is an object or one of our errors."""
    program = mapping(
        weight=tensor((2, 3), (3, 1)),
        scalar=call("numpy.dtype", text("f8")),
        config=b"cjmp.modules.ema\nEMAConfig\n)\x81}(" + text("decay") + number(1) + b"ub",
        raw=call("_codecs.encode", text("abc"), text("latin1")),
        size=call("torch.Size", numbers(1, 2)),
        array=call("builtins.bytearray", text("abc"), text("latin1")),
    )
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        changed = np.frombuffer(program, np.uint8).copy()
        where = rng.integers(0, len(changed), rng.integers(1, 4))
        changed[where] = rng.integers(0, 256, len(where))
        try:
            load(tmp_path, changed.tobytes())
            outcomes["read"] += 1
        except ConvertError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10


def test_truncated_pickle(tmp_path):
    path = archive(tmp_path / "file.pt", b"(" + text("a long word"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02X\xff\x00\x00\x00abc")
    with pytest.raises(FileFormatError, match="damaged at or after byte"):
        TorchFile(path).load()


def test_what_is_written_is_read(tmp_path):
    weights = {
        "w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "b": np.asarray(jnp.ones(3, jnp.bfloat16)),
        "s": np.array(2.0, np.float32),
        "e": np.zeros((0, 4)),
    }
    weights["alias"] = weights["w"]
    content = {
        "state_dict": weights,
        "transposed": weights["w"].T,
        "rest": [1, 2.5, "x", None, True, (-1, 2**40, -(2**70))],
    }
    write_torch_file(tmp_path / "file.pt", content)
    file = TorchFile(tmp_path / "file.pt")
    loaded = file.load()
    for name, array in weights.items():
        np.testing.assert_array_equal(loaded["state_dict"][name], array)
        assert loaded["state_dict"][name].dtype == array.dtype
    assert np.shares_memory(loaded["state_dict"]["w"], loaded["state_dict"]["alias"])
    np.testing.assert_array_equal(loaded["transposed"], weights["w"].T)
    assert loaded["rest"] == content["rest"]
    assert file.size == (tmp_path / "file.pt").stat().st_size
    assert len(file.sha256()) == 64
    starts = [zip_start(tmp_path / "file.pt", info) for info in
              zipfile.ZipFile(tmp_path / "file.pt").infolist()]  # fmt: skip
    assert [start % 64 for start in starts] == [0] * len(starts)


def zip_start(path: Path, info: zipfile.ZipInfo) -> int:
    header = path.read_bytes()[info.header_offset : info.header_offset + 30]
    return info.header_offset + 30 + sum(np.frombuffer(header[-4:], "<u2").tolist())


def test_what_cannot_be_written_is_named(tmp_path):
    for content, message in (
        ({"a": {"b": {1}}}, r"a\.b is a set"),
        ({"a": [0, np.array(["x"])]}, r"a\[1\] is an array of <U1"),
        ({"a": {1: 2}}, "a has the key 1"),
    ):
        with pytest.raises(TypeError, match=message):
            write_torch_file(tmp_path / "file.pt", content)
    assert list(tmp_path.iterdir()) == []
