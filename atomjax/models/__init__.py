"""Models: GraphBatch → features → predictions. Knows nothing of files or training."""

from atomjax.models.backbone import Backbone, Network
from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig, Prediction, TargetConfig
from atomjax.models.network import AtomicModel, features, predict
from atomjax.models.registry import (
    BACKBONES,
    backbone_config,
    build_model,
    find_backbone,
    init_variables,
    register,
)
from atomjax.models.scale_factors import ScaleFactorError, check_fitted, fit_scale_factors

__all__ = [
    "BACKBONES",
    "AtomicModel",
    "Backbone",
    "Features",
    "HeadConfig",
    "Network",
    "Prediction",
    "ScaleFactorError",
    "TargetConfig",
    "backbone_config",
    "build_model",
    "check_fitted",
    "features",
    "find_backbone",
    "fit_scale_factors",
    "init_variables",
    "predict",
    "register",
]
