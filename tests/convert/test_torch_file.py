"""Files of checkpoints: what may lie in them, what errors say, and what is written."""

import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.convert.errors import FileFormatError, RefusedError
from atomjax.convert.torch_file import TorchFile
from atomjax.convert.torch_writer import write_torch_file
from atomjax.safe_pickle import Record
from tests.safe_pickle.programs import (
    archive,
    call,
    mapping,
    number,
    tensor,
    text,
)

GRID = np.arange(6, dtype=np.float32)


def load(path: Path, program: bytes, **options):
    return TorchFile(archive(path / "file.pt", program, **options)).load()


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
    with pytest.raises(FileFormatError, match=r"file\.pt: .*reaches beyond its storage"):
        load(tmp_path, tensor((7,), (1,)))


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
