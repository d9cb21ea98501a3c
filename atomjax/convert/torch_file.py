"""Reading a checkpoint's file, with errors that name the remedy.

:mod:`atomjax.safe_pickle` parses it; this module lists the objects allowed beside tensors.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from atomjax import safe_pickle
from atomjax.convert.errors import FileFormatError, RefusedError
from atomjax.safe_pickle import ForbiddenName, PickleError, TorchArchive, is_legacy

# Packages of the training code whose checkpoints are known: their configs, schedules and callbacks
# lie beside the weights, and are recorded.
RECORDED = (
    "argparse",
    "datetime",
    "fairchem",
    "jmp",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "ll",
    "ocpmodels",
    "omegaconf",
    "pathlib",
    "pydantic",
    "pydantic_core",
    "pytorch_lightning",
    "torch.optim",
    "torchmetrics",
    "typing",
)
STORAGES = {**safe_pickle.STORAGES, "torch.BFloat16Storage": np.dtype(jnp.bfloat16)}
CHUNK = 1 << 22


class TorchFile:
    """A ``.pt``, ``.pth`` or ``.ckpt`` file.

    Raises:
        FileFormatError: it is missing, or no zip archive of PyTorch.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileFormatError(f"{self.path} is not a file; give a .pt or .ckpt file")
        if is_legacy(self.path):
            raise FileFormatError(
                f"{self.path} is in the format before PyTorch 1.6, which is not read. Write it "
                "anew with PyTorch: torch.save(torch.load(OLD, map_location='cpu'), NEW)"
            )
        with self._explained():
            self._archive = TorchArchive(self.path, STORAGES)

    def load(self) -> Any:
        """The object that was saved, its tensors as read-only numpy views of the file.

        Objects of the training code are :class:`~atomjax.safe_pickle.Record`.

        Raises:
            FileFormatError: the file is damaged, or a tensor reaches beyond its storage.
            RefusedError: the file names what is neither data nor of a known training code.
        """
        with self._explained():
            return self._archive.load(RECORDED)

    def sha256(self) -> str:
        """SHA-256 of the file, hexadecimal."""
        digest = hashlib.sha256()
        for start in range(0, self.size, CHUNK):
            digest.update(self._archive.content[start : start + CHUNK].data)
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._archive.content)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ForbiddenName as error:
            raise RefusedError(
                f"{self.path}: the file asks for {error.name}, which is neither part of a tensor "
                "nor a class of a training code whose checkpoints are known. Nothing was executed. "
                "If you trust the file, load it where it was made and save its state_dict alone"
            ) from None
        except PickleError as error:
            raise FileFormatError(f"{self.path}: {error}") from None
