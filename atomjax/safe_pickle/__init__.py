"""Pickled data and PyTorch's files without unpickling: parsed by their opcodes, nothing is called.

A pickle is a program for a stack machine, and two of its instructions may name and call any
function of any module. :mod:`.interpreter` runs the others, and looks names up in tables of what is
data: :mod:`.plain` (containers of the standard library), :mod:`.arrays` (numpy) and :mod:`.tensors`
(PyTorch). :mod:`.torch_archive` reads the files of ``torch.save``. All of it needs numpy only.
"""

from atomjax.safe_pickle.arrays import ARRAYS
from atomjax.safe_pickle.interpreter import (
    ForbiddenName,
    Global,
    PickleError,
    Record,
    load,
    load_next,
)
from atomjax.safe_pickle.plain import PLAIN
from atomjax.safe_pickle.tensors import STORAGES, TENSORS
from atomjax.safe_pickle.torch_archive import TorchArchive, is_legacy, load_torch_file

__all__ = [
    "ARRAYS",
    "PLAIN",
    "STORAGES",
    "TENSORS",
    "ForbiddenName",
    "Global",
    "PickleError",
    "Record",
    "TorchArchive",
    "is_legacy",
    "load",
    "load_next",
    "load_torch_file",
]
