"""Features of atoms and structures from a pretrained backbone, for one's own use.

import atomjax

found = atomjax.features("frames.xyz")                      # the extractor of the package
found = atomjax.features(structures, "checkpoints/jmp-s")   # any checkpoint
found.atoms[0]      # [atoms of the first structure, d]
found.structures    # [structures, d], means over atoms
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from atomjax.batching import GrowingShape
from atomjax.data.given import Source, structures_of
from atomjax.graphs.batch import GraphBatch
from atomjax.reporting.drawing import save_figure
from atomjax.reporting.tables import data_frame
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.progress import live_display
from atomjax.similarity.features.extractor import (
    BackboneExtractor,
    check_invariants,
    load_extractor,
)
from atomjax.similarity.settings import ExtractorSettings, Invariance
from atomjax.similarity.workflow.figures import map_plot
from atomjax.structures import Structure
from atomjax.training.running.places import checkpoint_folder
from atomjax.training.update.step import CountedFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Embeddings:
    """Features of structures, without unit.

    Attributes:
        atoms: for each structure [N, d], the inputs of the heads: the output of the backbone's
            last layer. Entry (l² + l + m) · C + c of EquiformerV2's is channel c of degree l and
            order m; only degree 0, the first C, does not turn with the structure. GemNet-OC's are
            invariant.
        identifiers: [S] names of the structures.
    """

    atoms: list[np.ndarray]
    identifiers: np.ndarray

    @property
    def structures(self) -> np.ndarray:
        """[S, d] mean over the atoms of each structure."""
        return np.stack([atoms.mean(axis=0) for atoms in self.atoms])

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame`` of the means: a row for each structure, a column for each feature.

        Raises:
            ImportError: pandas is missing.
        """
        return data_frame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of :meth:`to_dataframe`."""
        means = self.structures
        return {"identifier": self.identifiers} | {
            f"feature_{i}": means[:, i] for i in range(means.shape[1])
        }

    def plot(self, path: str | Path | None = None) -> "Figure":
        """The structures' means in the plane of their two principal components.

        Args:
            path: PNG to write; None writes nothing.

        Returns:
            The figure, which a notebook shows.

        Raises:
            ValueError: there are fewer than three structures.
        """
        if len(self.atoms) < 3:
            raise ValueError(f"{len(self.atoms)} structures span no plane; give at least three")
        target = None if path is None else Path(path)
        return save_figure(map_plot({"structures": self.structures}, ()).draw(), target)


class Embedder:
    """A backbone that takes structures and gives features.

    Batches are padded to one static shape, which grows when structures need more; each shape is
    compiled once.

    Args:
        extractor: the backbone, from :func:`atomjax.similarity.load_extractor`.
        invariance: "none" for all features; for backbones whose features turn with the structure
            "scalars", those of degree 0, or "norms", those and the norm of every channel of each
            higher degree.
        batch_size: most structures in a batch.

    Raises:
        ConfigError: the features have no degrees to take scalars or norms of.
        ValueError: the batch size is below 1.
    """

    def __init__(
        self,
        extractor: BackboneExtractor,
        *,
        invariance: Invariance = "none",
        batch_size: int = 32,
    ):
        check_invariants(extractor, (invariance,))
        self.extractor, self.batch_size = extractor, batch_size
        self.invariance: Invariance = invariance
        self._shape = GrowingShape(batch_size)
        self._variables = jax.device_put(dict(extractor.variables))
        self._apply = CountedFunction(self._features)

    def __call__(
        self, structures: Sequence[Structure], told: Callable[[int], None] | None = None
    ) -> Embeddings:
        """Features of structures, in their order; their labels are not read.

        Args:
            structures: structures to compute for.
            told: called after each batch with its number of structures.

        Raises:
            GraphError: the graph of a structure cannot be built.
            ConfigError: a structure holds an element that the backbone does not know.
            ValueError: features are not finite.
        """
        self.extractor.check_elements(structures, "structures")
        found: dict[int, np.ndarray] = {}
        for group, batch in self._shape.batches(structures, self.extractor.graph):
            rows = jax.device_get(self._apply(self._variables, batch))
            first = 0
            for i in group.tolist():
                last = first + len(structures[i])
                found[i], first = rows[first:last], last
                if not np.isfinite(found[i]).all():
                    raise ValueError(
                        f"features of structure {i} ({structures[i].identifier or 'unnamed'}) are "
                        "not finite; look at its positions"
                    )
            if told is not None:
                told(len(group))
        names = np.array([structure.identifier for structure in structures], dtype=np.str_)
        return Embeddings([found[i] for i in range(len(structures))], names)

    @property
    def num_compilations(self) -> int:
        """Number of compilations of the backbone."""
        return self._apply.num_compilations

    def _features(self, variables: dict, batch: GraphBatch) -> jax.Array:
        values = self.extractor.node_features(variables, batch)
        return self.extractor.invariant(values, self.invariance)


def load_embedder(
    checkpoint: str | Path | None = None,
    *,
    invariant_only: bool = False,
    batch_size: int = 32,
) -> Embedder:
    """An embedder from a checkpoint.

    Args:
        checkpoint: directory of a run or of a converted checkpoint; None takes the small
            EquiformerV2 that comes with the package.
        invariant_only: leave out parts that turn with the structure: of EquiformerV2's features
            keep degree 0 and the norms of higher degrees.
        batch_size: most structures in a batch.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    keep_freed_memory()
    extractor = load_extractor(
        ExtractorSettings(checkpoint=None if checkpoint is None else str(checkpoint))
    )
    return make_embedder(extractor, invariant_only=invariant_only, batch_size=batch_size)


def make_embedder(
    extractor: BackboneExtractor, *, invariant_only: bool, batch_size: int
) -> Embedder:
    """An embedder of all features, or of those that stay the same when a structure turns."""
    # Features without degrees are invariant as they are.
    norms = invariant_only and extractor.lmax is not None
    return Embedder(extractor, invariance="norms" if norms else "none", batch_size=batch_size)


@functools.lru_cache(maxsize=4)
def _loaded(checkpoint: Any, saved: Any, invariant_only: bool, batch_size: int) -> Embedder:
    del saved
    return load_embedder(checkpoint, invariant_only=invariant_only, batch_size=batch_size)


def _saved(checkpoint: str | Path | None) -> tuple[Path, int] | None:
    """Place of a checkpoint and when one was last saved there; None for weights of the package."""
    if checkpoint is None or not Path(checkpoint).is_dir():
        return None
    folder = checkpoint_folder(checkpoint, "best") / "best"
    return folder.resolve(), folder.stat().st_mtime_ns


def features(
    structures: Source,
    checkpoint: str | Path | None = None,
    *,
    invariant_only: bool = False,
    batch_size: int = 32,
    progress: bool = True,
    **options: Any,
) -> Embeddings:
    """Features of structures; see :func:`load_embedder` and :class:`Embedder`.

    The backbone is kept, with what was compiled for it, for the next call, until another checkpoint
    is saved in its place.

    Args:
        structures: path, `ase.Atoms`, `Structure`, store, or a list of these.
        checkpoint: directory of a run or of a converted checkpoint; None takes the small
            EquiformerV2 that comes with the package.
        invariant_only: leave out parts that turn with the structure.
        batch_size: most structures in a batch.
        progress: show a bar, in terminals and notebooks.
        **options: units and label keys of files and atoms, as in a config.

    Raises:
        CheckpointError: there is no such checkpoint.
        GraphError: the graph of a structure cannot be built.
        ReadError: the structures cannot be read.
        ValueError: features are not finite.

    Example:
        >>> import atomjax
        >>> found = atomjax.features("frames.xyz")
        >>> found.atoms[0].shape, found.structures.shape
        ((9, 288), (3, 288))
    """
    embedder = _loaded(checkpoint, _saved(checkpoint), invariant_only, batch_size)
    return embed(embedder, structures, progress, options)


def embed(
    embedder: Embedder, structures: Source, progress: bool, options: Mapping[str, Any]
) -> Embeddings:
    """Features of structures as people have them, under a bar of progress."""
    found = structures_of(structures, outdated="drop", **options)
    with live_display(progress).track(len(found), "features") as tracker:
        return embedder(found, tracker.advance)
