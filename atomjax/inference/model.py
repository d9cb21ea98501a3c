"""A trained model in hand: predictions, features and an ASE calculator in a line each.

model = atomjax.load("runs/mine")
results = model.predict("frames.xyz")
"""

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import jax
from ase import Atoms

from atomjax.data.given import Source, structures_of
from atomjax.inference.calculator import SLACK, AtomjaxCalculator
from atomjax.inference.embeddings import Embedder, Embeddings, embed, make_embedder
from atomjax.inference.ensemble import EnsemblePredictor, at_least_two
from atomjax.inference.predict import Predictor, make_predictor
from atomjax.inference.results import Predictions
from atomjax.inference.simulation import atoms_of, simulate
from atomjax.runtime.allocator import keep_freed_memory
from atomjax.runtime.progress import live_display
from atomjax.similarity.features.extractor import checkpoint_name, make_extractor
from atomjax.similarity.settings import ExtractorSettings
from atomjax.structures import ClassLabels
from atomjax.structures.elements import SYMBOLS
from atomjax.training.running.checkpoint import Which, load_checkpoint


class Predicting(abc.ABC):
    """Predictions and simulations of one model, or of several as an :class:`Ensemble`."""

    @abc.abstractmethod
    def predictor(self, **options: Any) -> Predictor | EnsemblePredictor:
        """The predictor of these options of :class:`atomjax.inference.predict.Predictor`."""

    def classes(self, dataset: str | None = None) -> dict[str, tuple[str, ...]]:
        """Properties of a data set's head that are classes, with the names of these.

        Args:
            dataset: data set; may be left out if there is one head.

        Raises:
            CheckpointError: as for :meth:`predict`.
            ValueError: likewise.
        """
        scales = self.predictor().head(dataset).scales
        return {scale.name: scale.classes for scale in scales if isinstance(scale, ClassLabels)}

    def predict(
        self,
        structures: Source,
        dataset: str | None = None,
        *,
        batch_size: int = 16,
        outside_span: Literal["raise", "mark"] = "raise",
        progress: bool = True,
        **options: Any,
    ) -> Predictions:
        """Energies (eV), forces (eV/Å), stresses (eV/Å³) and properties of structures.

        Predicting all structures in one call is faster than one by one. Labels of the structures
        are kept beside the predictions.

        Args:
            structures: path, `ase.Atoms`, `Structure`, store, or a list of these; a molecule needs
                no cell.
            dataset: data set whose head predicts; may be left out if there is one head.
            batch_size: most structures in a batch.
            outside_span: treatment of compositions whose references are undetermined: "raise", or
                "mark" their results.
            progress: show a bar, in terminals and notebooks.
            **options: units and label keys of files and atoms, as in a config: energy_unit,
                length_unit, energy_key, forces_key, ...

        Raises:
            CheckpointError: the checkpoint has no heads, or does not say how labels were scaled.
            ReadError: the structures cannot be read.
            ReferencesError: an element that the training set did not hold, or a composition that
                the references do not tell.
            ValueError: there is no such head, or there are several and none is named.

        Example:
            >>> model = atomjax.load("runs/mine")
            >>> results = model.predict("frames.xyz")
            >>> len(results), results.energies.shape
            (3, (3,))
        """
        predictor = self.predictor(batch_size=batch_size, outside_span=outside_span)
        scales = predictor.head(dataset).scales
        classes = [scale.name for scale in scales if isinstance(scale, ClassLabels)]
        given = {"classes": classes, **options} if classes else options
        found = structures_of(structures, outdated="drop", **given)
        passes = len(predictor.members) if isinstance(predictor, EnsemblePredictor) else 1
        with live_display(progress).track(passes * len(found), "predicting") as tracker:
            results = predictor(found, dataset, tracker.advance)
        return Predictions.of(found, results, scales=scales)

    def calculator(
        self, dataset: str | None = None, *, use_tags: bool = False, **options: Any
    ) -> AtomjaxCalculator:
        """An ASE calculator: see :class:`atomjax.inference.calculator.AtomjaxCalculator`.

        Args:
            dataset: data set whose head predicts; may be left out if there is one head.
            use_tags: whether the tags of the atoms mean what they did in training.
            **options: options of ASE's ``Calculator``.

        Raises:
            CheckpointError: as for :meth:`predict`.

        Example:
            >>> from ase.io import read
            >>> atoms = read("frames.xyz")
            >>> atoms.calc = atomjax.load("runs/mine").calculator()
            >>> atoms.get_forces().shape
            (9, 3)
        """
        predictor = self.predictor(batch_size=1, slack=SLACK)
        predictor.head(dataset)
        return AtomjaxCalculator(predictor, dataset, use_tags=use_tags, **options)

    def simulate(
        self,
        structures: Source,
        run: Callable[[Atoms], Any],
        dataset: str | None = None,
        *,
        at_once: int = 64,
        use_tags: bool = False,
        progress: bool = True,
        **options: Any,
    ) -> list[Atoms]:
        """Structures after a simulation of each with ASE, many at a time in one batch.

        Args:
            structures: as for :meth:`predict`; of `ase.Atoms`, velocities and constraints are kept.
            run: takes `ase.Atoms` with a calculator and moves them: a relaxation, a dynamics, or
                anything else that asks for energies, forces and stresses. It runs in a thread of
                its own for each structure, and whenever all threads have asked, the model predicts
                for all of them in one batch.
            dataset: data set whose head predicts; may be left out if there is one head.
            at_once: most structures that are simulated at a time.
            use_tags: whether the tags of the atoms mean what they did in training.
            progress: show a bar, in terminals and notebooks.
            **options: as for :meth:`predict`.

        Returns:
            Copies of the structures as `run` left them, in their order, with the last results.

        Raises:
            CheckpointError: as for :meth:`predict`.
            ReadError: the structures cannot be read.
            Exception: what `run` raised for one of them, which ends the others.

        Example:
            >>> from ase.optimize import BFGS
            >>> model = atomjax.load("runs/mine")
            >>> relax = lambda atoms: BFGS(atoms, logfile=None).run(fmax=0.1, steps=3)
            >>> relaxed = model.simulate("frames.xyz", relax)
            >>> len(relaxed), relaxed[0].get_forces().shape
            (3, (9, 3))
        """
        given = atoms_of(structures, **options)
        return simulate(self.predictor, given, run, dataset, at_once, use_tags, progress)


class Model(Predicting):
    """A trained model, of which :func:`load` and :func:`atomjax.finetune` return one.

    What was compiled is kept with it, so that later calls are fast.

    Args:
        variables: {"params", "scale_factors"}.
        metadata: metadata of the checkpoint.
        name: directory that it was read from, for messages.

    Attributes:
        name: directory that it was read from.
        metadata: metadata of the checkpoint: model, heads, graphs, references, settings, errors.
    """

    def __init__(self, variables: Mapping[str, Any], metadata: Mapping[str, Any], name: str):
        keep_freed_memory()
        self.name, self.metadata = name, dict(metadata)
        self._variables = variables
        self._predictors: dict[tuple[Any, ...], Predictor] = {}
        self._embedders: dict[tuple[Any, ...], Embedder] = {}

    def __repr__(self) -> str:
        heads = ", ".join(f"{head['name']}: {head['kind']}" for head in self.metadata["heads"])
        model, step = self.metadata["model"]["name"], self.metadata["step"]
        return f"Model({model} of {self.name}, step {step}; heads {heads or 'none'})"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that it was trained on, each with a head of its own."""
        return tuple(head["name"] for head in self.metadata["heads"])

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the elements that it was trained on; none where its checkpoint has no list."""
        labels = self.metadata.get("datasets", {}).values()
        known = {s for one in labels for s in one.get("trained_on", {}).get("elements", ())}
        return tuple(symbol for symbol in SYMBOLS if symbol in known)

    def features(
        self,
        structures: Source,
        *,
        invariant_only: bool = False,
        batch_size: int = 32,
        progress: bool = True,
        **options: Any,
    ) -> Embeddings:
        """Features of atoms and structures: what the heads read.

        Args:
            structures: as for :meth:`predict`.
            invariant_only: leave out parts that turn with the structure: of EquiformerV2's features
                keep degree 0 and the norms of higher degrees.
            batch_size: most structures in a batch.
            progress: show a bar, in terminals and notebooks.
            **options: as for :meth:`predict`.

        Raises:
            ReadError: the structures cannot be read.
            ValueError: features are not finite.

        Example:
            >>> features = atomjax.load("runs/mine").features("frames.xyz")
            >>> features.atoms[0].shape[0], features.structures.shape[0]
            (9, 3)
        """
        embedder = self.embedder(invariant_only=invariant_only, batch_size=batch_size)
        return embed(embedder, structures, progress, options)

    def predictor(self, **options: Any) -> Predictor:
        """The :class:`atomjax.inference.predict.Predictor` of these options, made once."""
        key = tuple(sorted(options.items()))
        if key not in self._predictors:
            self._predictors[key] = make_predictor(
                self._placed, self.metadata, self.name, **options
            )
        return self._predictors[key]

    @functools.cached_property
    def _placed(self) -> dict[str, Any]:
        """Weights on the device, once for predictors of all options."""
        return jax.device_put(dict(self._variables))

    def embedder(self, *, invariant_only: bool = False, batch_size: int = 32) -> Embedder:
        """The :class:`atomjax.inference.embeddings.Embedder` of these options, made once."""
        key = invariant_only, batch_size
        if key not in self._embedders:
            name = checkpoint_name(self.metadata, self.name)
            extractor = make_extractor(self._variables, self.metadata, name, ExtractorSettings())
            self._embedders[key] = make_embedder(
                extractor, invariant_only=invariant_only, batch_size=batch_size
            )
        return self._embedders[key]


class Ensemble(Predicting):
    """Trained models that predict together, of which :func:`load` returns one for several runs.

    Where the data determine them, models agree; where they do not, their standard deviation is
    large. It is a sign, not a bound: docs/python.md has how far it follows errors.

    What it predicts are means; ``deviations`` of the results hold standard deviations, and
    ``results`` of its calculator "energy_deviation", "forces_deviation" and "stress_deviation".
    Models whose heads predict different quantities are a ValueError.

    Args:
        models: at least two models with heads of the same kind.

    Raises:
        ValueError: there are fewer.

    Example:
        >>> ensemble = atomjax.load(["runs/mine", "runs/mine"])
        >>> results = ensemble.predict("frames.xyz")
        >>> results.deviations.energies.shape
        (3,)
    """

    def __init__(self, models: Sequence[Model]):
        self.models = at_least_two(models)

    def __repr__(self) -> str:
        return f"Ensemble({', '.join(map(repr, self.models))})"

    def predictor(self, **options: Any) -> EnsemblePredictor:
        """The `EnsemblePredictor` of these options; as :meth:`Model.predictor`."""
        return EnsemblePredictor([model.predictor(**options) for model in self.models])


@overload
def load(directory: str | Path, which: Which = "best", *, averaged: bool = True) -> Model: ...


@overload
def load(
    directory: Sequence[str | Path], which: Which = "best", *, averaged: bool = True
) -> Ensemble: ...


def load(
    directory: str | Path | Sequence[str | Path], which: Which = "best", *, averaged: bool = True
) -> Model | Ensemble:
    """A trained model, or several as an ensemble.

    Args:
        directory: a run's directory, the ``checkpoints`` directory in it, a converted
            checkpoint, the name of a published one such as "download:jmp-s",
            "atomjax-molecules" or "atomjax-crystals", which come with the package, or a list of
            these.
        which: "best" by validation, or "latest", of a run.
        averaged: take the moving average of the parameters, which validation used.

    Raises:
        CheckpointError: there is no such checkpoint, or a damaged one.
        ValueError: a list of fewer than two.

    Example:
        >>> import atomjax
        >>> model = atomjax.load("runs/mine")
        >>> model.datasets
        ('own',)
    """
    if not isinstance(directory, str | Path):
        return Ensemble([load(one, which, averaged=averaged) for one in directory])
    variables, metadata = load_checkpoint(directory, which, averaged=averaged)
    return Model(variables, metadata, str(directory))
