"""Notebooks from their sources, and their execution by a real kernel.

    python docs/notebooks.py           writes notebooks/*.ipynb from notebooks/*.py
    python docs/notebooks.py NAME ...  runs these in temporary folders, and says how long they took

``ATOMJAX_FAST=1`` makes the counts in them small.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
# Seconds that a cell may take.
TIMEOUT = 3600
# Those that say which devices there are, which JAX asks once in a process.
OWN_KERNEL = ("5_several_devices",)


def notebook_of(source: Path) -> Any:
    """The notebook of a source, without outputs, the same at every call."""
    notebook = jupytext.read(source)
    notebook.metadata.pop("jupytext", None)
    # Colab then keeps the outputs of its readers out of the file.
    notebook.metadata["colab"] = {"private_outputs": True, "provenance": []}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    notebook.update(nbformat=4, nbformat_minor=5)
    nbformat.validate(notebook)
    return notebook


def text_of(notebook: Any) -> str:
    """The text of a file .ipynb."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT, indent=1) + "\n"


def execute(source: Path, folder: Path, kernels: list[Any] | None = None) -> Any:
    """The notebook of a source with its outputs, run by a kernel of this Python in a folder.

    Args:
        source: source of the notebook.
        folder: folder that it runs in.
        kernels: empty at first, then the manager of a kernel that runs one notebook after another,
            until :func:`shut_down`, in folders that are there until then. Names of those before are
            gone; what they imported is not, which saves time. None: a kernel for this notebook.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = notebook_of(source)
    # The kernel imports this checkout, and draws into its cells.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    if kernels is None or source.stem in OWN_KERNEL:
        return client.execute(env=environment)
    if not kernels:
        kernels.append(client.create_kernel_manager())
    client.km = kernels[0]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}"))
    client.execute(env=environment, cleanup_kc=False)
    del notebook.cells[0]
    return notebook


def shut_down(kernels: list[Any]) -> None:
    """Ends the kernels that :func:`execute` started."""
    for manager in kernels:
        asyncio.run(manager.shutdown_kernel(now=True))


def main(names: Sequence[str]) -> int:
    """Writes the notebooks, or runs those that are named by a part of their names."""
    for source in SOURCES:
        if not names:
            source.with_suffix(".ipynb").write_text(text_of(notebook_of(source)), "utf-8")
        elif any(name in source.stem for name in names):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                done = execute(source, Path(folder))
            print(f"{source.stem}: {time.perf_counter() - began:.0f} s")
            for cell in done.cells:
                for output in cell.get("outputs", []):
                    if output.get("name") == "stdout":
                        print(output["text"].rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
