"""Pickles as PyTorch and PyTorch Geometric write them, without either."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"f8": "DoubleStorage", "f4": "FloatStorage", "i8": "LongStorage", "?1": "BoolStorage"}


class Tensor:
    """Pickled as ``torch.Tensor`` is: a window on a storage that is a file of its own."""

    def __init__(self, array: Any, dtype: Any = np.float32) -> None:
        self.array = np.ascontiguousarray(array, dtype)

    def __reduce__(self) -> tuple:
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        storage = Storage(self.array.ravel())
        return rebuild, (storage, 0, self.array.shape, strides, False, OrderedDict())


class Storage:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __reduce__(self) -> tuple:
        return sys.modules["torch.storage"]._load_from_bytes, (legacy_file(self.values),)


def legacy_file(values: np.ndarray) -> bytes:
    """A storage in the format of ``torch.save`` before version 1.6."""
    code = "?1" if values.dtype == bool else values.dtype.str[1:]
    kind = getattr(sys.modules["torch"], STORAGES[code])

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", kind, "7", "cpu", len(values), None) if obj is values else None

    file = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    for value in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(value, file, protocol=2)
    Pickler(file, protocol=2).dump(values)
    pickle.dump(["7"], file, protocol=2)
    return file.getvalue() + len(values).to_bytes(8, "little") + values.tobytes()


def dump_apart(value: Any, *view: None) -> tuple[bytes, dict[str, np.ndarray]]:
    """The pickle of a value whose storages lie elsewhere, and these by their keys."""
    storages: dict[str, np.ndarray] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Storage):
                return None
            key = str(len(storages))
            storages[key] = obj.values
            kind = getattr(sys.modules["torch"], STORAGES[obj.values.dtype.str[1:]])
            return ("storage", kind, key, "cpu", len(obj.values), *view)

    file = io.BytesIO()
    with torch_names():
        Pickler(file, protocol=2).dump(value)
    return file.getvalue(), storages


def write_torch_archive(path: Path, value: Any) -> None:
    """A file of ``torch.save`` as it is written since version 1.6."""
    program, storages = dump_apart(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", program)
        archive.writestr(f"{path.stem}/byteorder", "little")
        for key, values in storages.items():
            archive.writestr(f"{path.stem}/data/{key}", values.tobytes())


def write_legacy_archive(path: Path, value: Any) -> None:
    """A file of ``torch.save`` as it was written before version 1.6."""
    program, storages = dump_apart(value, None)
    header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    with path.open("wb") as file:
        for part in header:
            pickle.dump(part, file, protocol=2)
        file.write(program)
        pickle.dump(list(storages), file, protocol=2)
        for values in storages.values():
            file.write(len(values).to_bytes(8, "little") + values.tobytes())


@contextmanager
def torch_names() -> Iterator[None]:
    """Modules that hold just the names which pickles of tensors and PyG's data refer to."""
    content = {
        "torch": STORAGES.values(),
        "torch._utils": ["_rebuild_tensor_v2"],
        "torch.storage": ["_load_from_bytes"],
        "torch_geometric": [],
        "torch_geometric.data": [],
        "torch_geometric.data.data": ["Data", "DataEdgeAttr", "DataTensorAttr"],
        "torch_geometric.data.storage": ["GlobalStorage"],
    }
    before = {name: sys.modules.get(name) for name in content}
    try:
        for module, names in content.items():
            sys.modules[module] = types.ModuleType(module)
            for name in names:
                kind = type(name, (), {"__module__": module, "__qualname__": name})
                if name.startswith("_"):
                    kind.__reduce__ = lambda self: self
                setattr(sys.modules[module], name, kind)
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def pyg_pickle(fields: Mapping[str, Any], version: int, protocol: int = 4) -> bytes:
    """A ``torch_geometric.data.Data`` of version 1 or 2 with arrays as tensors."""
    with torch_names():
        stored = {k: Tensor(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        module = sys.modules["torch_geometric.data.data"]
        data = module.Data()
        if version == 1:
            data.__dict__.update(stored)
        else:
            storage = sys.modules["torch_geometric.data.storage"].GlobalStorage()
            storage.__dict__.update(_mapping=stored, _parent=data)
            data.__dict__.update(_edge_attr_cls=module.DataEdgeAttr, _store=storage)
        return pickle.dumps(data, protocol=protocol)
