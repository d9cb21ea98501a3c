"""Independent units of a sample: structures, or whole groups of structures that are alike.

Frames of one molecule, of one slab or of one trajectory hold less information than as many
independent structures. Resampling (jackknife, exchange of two sets, halves) draws these units
whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atomjax.data.settings import DatasetSettings
from atomjax.data.sources import generate_spec
from atomjax.similarity.features.sampling import class_codes
from atomjax.similarity.settings import Unit
from atomjax.structures.generate.kinds import find_kind
from atomjax.structures.generate.pool.tasks import make_tasks, options_from
from atomjax.structures.readers import find_format, guess_format
from atomjax.structures.store import Store
from atomjax.structures.structure import Structure

# Fewer units are too few to estimate the spread between draws of a set.
FEWEST_UNITS = 5
# Stretches of a trajectory, as in the method of batch means: enough of them for a spread, and long
# beside the correlation time.
STRETCHES = 10
FRAMES_PER_STRETCH = 10
DRAWN_PER_STRETCH = 3
# Units are kept in so many blocks at most, dealt to them in turn, so that memory is bounded.
BLOCKS = 1024


@dataclass(frozen=True)
class Units:
    """The independent units of a sample of S structures.

    Attributes:
        kind: "structure", "class", "walker" or "stretch".
        codes: [S] unit of each structure, numbered in the order of first appearance.
    """

    kind: str
    codes: np.ndarray

    @property
    def count(self) -> int:
        """Number of units."""
        return int(self.codes.max()) + 1

    @property
    def blocks(self) -> np.ndarray:
        """[S] block that each structure is kept in."""
        return self.codes % BLOCKS


def independent_units(
    dataset: DatasetSettings,
    unit: Unit,
    classes: np.ndarray,
    indices: np.ndarray,
    structures: Sequence[Structure],
) -> Units:
    """The units of a sample.

    "auto" takes classes where the sample has more than one; then parts of the trajectory where the
    set is known to be one (generated dynamics, rMD17, MD22, ASE trajectories); then structures.

    Args:
        dataset: the set.
        unit: kind of units.
        classes: [S] class of each structure.
        indices: [S] its place in the set, in whose order a trajectory runs.
        structures: structures of the set.
    """
    if unit == "auto":
        unit = "structure"
        if len(np.unique(classes)) > 1:
            unit = "class"
        elif is_trajectory(dataset, structures):
            unit = "trajectory"
    if unit == "structure":
        return Units("structure", np.arange(len(indices)))
    if unit == "class":
        return Units("class", class_codes(classes)[0])
    if dataset.kind == "generate" and dataset.generator == "dynamics":
        return Units("walker", class_codes(_walkers(dataset, indices, structures))[0])
    frames = _frames(indices, structures)
    return Units("stretch", class_codes(stretches(frames, len(structures)))[0])


def is_trajectory(dataset: DatasetSettings, structures: Sequence[Structure]) -> bool:
    """Whether the frames of a set are known to follow one another."""
    if dataset.kind == "generate":
        return dataset.generator == "dynamics"
    if isinstance(structures, Store):
        origin = structures.manifest["origin"]
        path, name = next(iter(origin.get("paths", ())), ""), origin.get("source")
    else:
        path, name = dataset.path or "", dataset.format
    facts = find_format(name or guess_format(Path(path)) or "")
    return path.endswith(".traj") or (facts is not None and facts.trajectory)


def describe_units(kind: str, count: int) -> str:
    """Number and kind of units in words."""
    words = {
        "structure": "structures",
        "class": "classes (molecules, compositions, reactions or slabs)",
        "walker": "independent trajectories",
        "stretch": "stretches of one trajectory",
    }
    return f"{count:,} {words[kind]}"


def _walkers(
    dataset: DatasetSettings, indices: np.ndarray, structures: Sequence[Structure]
) -> np.ndarray:
    """[S] number of the trajectory that each frame of generated dynamics is from."""
    spec = generate_spec(dataset)
    kind = find_kind(spec.kind)
    plan = kind.plan(options_from(kind.Options, spec.options, spec.kind), spec.count, spec.seed)
    starts = [task.start for task in make_tasks(plan)]
    return np.searchsorted(starts, _frames(indices, structures), side="right")


def _frames(indices: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """[S] place of each frame in the trajectory, by its identifier, such as ``file:number``.

    Official parts hold frames in the order in which they were drawn. Frames that are not so named,
    or of several files, are taken to come in the order of the set.
    """
    named = [structures[i].identifier.rpartition(":") for i in indices.tolist()]
    numbers = [int(number) for _, _, number in named if number.isdecimal()]
    one_file = len({file for file, _, _ in named}) == 1
    return np.array(numbers) if one_file and len(numbers) == len(named) else indices


def stretches(indices: np.ndarray, frames: int) -> np.ndarray:
    """[S] stretch of each frame: equal numbers of drawn frames that follow one another.

    Args:
        indices: [S] places of the drawn frames in the trajectory.
        frames: number of frames of the whole trajectory.
    """
    longest = min(len(indices) // DRAWN_PER_STRETCH, frames // FRAMES_PER_STRETCH)
    count = max(min(STRETCHES, longest), 1)
    place = np.empty(len(indices), np.int64)
    place[np.argsort(indices, kind="stable")] = np.arange(len(indices))
    return place * count // len(indices)
