"""Settings of the network: its backbone and its heads."""

from dataclasses import dataclass, field
from typing import Any, Literal

from atomjax.runtime.config import ConfigError, Count, Settings

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
class HeadSettings(Settings):
    """The head: the quantities to predict from the backbone's features.

    Energies are sums over the atoms. Pooling "dipole" gives the length of Σ q_i (r_i - c), "extent"
    Σ a_i |r_i - c|², with c the centre of mass, for molecules.
    """

    kind: Literal["energy_forces", "energy", "scalar"] = "energy_forces"
    'Energies and forces, energies alone, or one property of each structure ("scalar").'
    forces: Literal["direct", "conservative"] = "direct"
    'From the outputs for forces ("direct"), or the derivative -dE/dR ("conservative").'
    pooling: Literal["sum", "mean", "max", "dipole", "extent"] = "sum"
    'For "scalar": combination of the atoms\' contributions.'
    target: str | None = None
    'For "scalar": name of the property in `Structure.targets`.'
    unit: str = ""
    'For "scalar": unit of the property, for reports.'
    extensive: bool = False
    'For "scalar": grows with the atoms; each element\'s share is fitted and taken out first.'
    num_layers: Count = 5
    "Linear layers of the head; fixed in EquiformerV2."
    stress: bool = False
    "Predict and train the stress too, the energy's derivative by the strain."
    transform: Literal["identity", "log"] = "identity"
    'For "scalar": "log" trains on the logarithm; errors are reported of the property itself.'

    def __post_init__(self):
        super().__post_init__()
        if self.stress and (self.kind, self.forces) != ("energy_forces", "conservative"):
            raise ConfigError(
                'stress=True is the energy\'s derivative; it needs kind "energy_forces" and '
                'forces "conservative"'
            )
        if self.transform != "identity" and (self.kind != "scalar" or self.extensive):
            raise ConfigError(
                f'transform "{self.transform}" is for kind "scalar" without extensive: the '
                "logarithm of a sum over atoms is none"
            )
        if (self.kind == "scalar") != (self.target is not None):
            raise ConfigError('target names a property for kind "scalar", and only for it')
        if self.kind != "scalar" and self.pooling != "sum":
            raise ConfigError(f'pooling "{self.pooling}" is for kind "scalar"; energies are sums')
        if self.extensive and self.pooling in MOMENTS:
            raise ConfigError(
                f'pooling "{self.pooling}" makes the property of charges at places, from which no '
                "shares of elements can be taken out; leave extensive=True away"
            )
