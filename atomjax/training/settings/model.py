"""Settings of the network: its backbone and its heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.runtime.config import ConfigError, Count, Fraction, NotNegative, Settings

# Poolings with positions; see ``atomjax.models.heads.pool``.
MOMENTS = ("dipole", "extent")


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """The backbone: its size and changes to it."""

    name: str = "gemnet_oc_small"
    'Registered model, such as "gemnet_oc_small" or "equiformer_v2_31M".'
    overrides: dict[str, Any] = field(default_factory=dict)
    "Fields of that model's config to change."


@dataclass(frozen=True, kw_only=True)
class TargetSettings(Settings):
    """A property of structures to predict: a number, or a class.

    Pooling "dipole" gives the length of Σ q_i (r_i - c), "extent" Σ a_i |r_i - c|², with c the
    centre of mass, for molecules. The model learns a number less its mean over the training
    structures that have it, in units of its standard deviation. A class is a text or an integer in
    the records; the head gives each class a score, and probabilities are the softmax of the scores.
    """

    name: str
    "Name in `Structure.targets`."
    kind: Literal["number", "class"] = "number"
    "A number, or one of two or more classes."
    unit: str = ""
    "Unit, for reports."
    coefficient: NotNegative = 1.0
    "Weight of its loss."
    pooling: Literal["sum", "mean", "max", "dipole", "extent"] = "sum"
    "Combination of the atoms' contributions."
    extensive: bool = False
    "Grows with the atoms; each element's share is fitted and taken out first."
    transform: Literal["identity", "log"] = "identity"
    '"log" trains on the logarithm; errors are reported of the property itself.'
    classes: tuple[str, ...] = ()
    "Names of the classes in their order, of two the positive one last; none: those that occur."
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    'Weights in the loss by class, 1 where left out, or "balanced": by the inverse of their number.'
    dropout: Fraction = 0.0
    "Rate at the input of its network."

    def __post_init__(self):
        super().__post_init__()
        if self.kind == "class":
            self._check_class()
        elif self.classes or self.class_weights is not None:
            raise ConfigError(f'"{self.name}": classes and class_weights are for kind "class"')
        if self.transform != "identity" and self.extensive:
            raise ConfigError(
                f'transform "{self.transform}" is for properties without extensive: the '
                "logarithm of a sum over atoms is none"
            )
        if self.extensive and self.pooling in MOMENTS:
            raise ConfigError(
                f'pooling "{self.pooling}" makes the property of charges at places, from which no '
                "shares of elements can be taken out; leave extensive=True away"
            )

    def _check_class(self):
        """Raises ConfigError for settings that a class cannot have."""
        if self.extensive or self.transform != "identity" or self.unit:
            raise ConfigError(
                f'"{self.name}" is a class, without unit, extensive and transform; leave them out'
            )
        if self.pooling in MOMENTS:
            raise ConfigError(f'pooling "{self.pooling}" is for numbers; "{self.name}" is a class')
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes={list(self.classes)} must be two or more, all different")
        weights = self.class_weights if isinstance(self.class_weights, dict) else {}
        for name, weight in weights.items():
            if not weight >= 0 or (self.classes and name not in self.classes):
                raise ConfigError(
                    f"class_weights: {name}={weight} must be at least 0, and of one of the classes"
                )


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """The head: the quantities to predict from the backbone's features.

    Energies are sums over the atoms.
    """

    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    'Energies and forces, energies alone, or neither but properties alone ("scalar").'
    forces: Literal["direct", "conservative"] = "direct"
    'From the outputs for forces ("direct"), or the derivative -dE/dR ("conservative").'
    targets: tuple[TargetSettings, ...] = ()
    "Properties of each structure, alone or beside energies and forces."
    num_layers: Count = 5
    "Linear layers of a head of GemNet-OC."
    hidden_channels: Count | None = None
    "Width of a head's networks of energies and properties in EquiformerV2; none: the backbone's."
    force_hidden_channels: Count | None = None
    "The same of the network of direct forces."
    stress: bool = False
    "Predict and train the stress too, the energy's derivative by the strain."

    def __post_init__(self):
        super().__post_init__()
        if self.stress and (self.kind, self.forces) != ("energy_forces", "conservative"):
            raise ConfigError(
                'stress=True is the energy\'s derivative; it needs kind "energy_forces" and '
                'forces "conservative"'
            )
        if self.kind == "scalar" and not self.targets:
            raise ConfigError(
                'kind "scalar" predicts properties; name them: targets=[{"name": "gap"}]'
            )
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ConfigError(f"targets {names} must be all different")

    def check_comparable(self) -> None:
        """Check that models can be compared by one error.

        Raises:
            ConfigError: it predicts several properties, whose units differ, and no energies.
        """
        if self.kind == "scalar" and len(self.targets) > 1:
            names = ", ".join(target.name for target in self.targets)
            raise ConfigError(
                f"a study compares models by one error, and head.targets has several ({names}); "
                "give one, or train them in a run of its own"
            )

    def unit_of(self, name: str) -> str:
        """Unit of a property, by its name or that under which its errors are reported."""
        for target in self.targets:
            if len(self.targets) == 1 or f"/{name}".endswith(f"/{target.name}"):
                return target.unit
        return ""

    @classmethod
    def from_earlier(cls, previous: Mapping[str, Any]) -> Mapping[str, Any]:
        """A stored section of when a head had one property, whose settings were the head's."""
        own = {key: previous[key] for key in _ONE_TARGET if key in previous}
        kept = {key: value for key, value in previous.items() if key not in own}
        name = own.pop("target", None)
        return kept if name is None else {**kept, "targets": [{"name": name, **own}]}


# Fields of a head of when it had one property.
_ONE_TARGET = ("target", "unit", "coefficient", "pooling", "extensive", "transform")
