"""Models: GraphBatch → features → predictions. Knows nothing of files or training."""

from atomjax.models.features import Features
from atomjax.models.heads import HeadConfig
from atomjax.models.network import AtomicModel, Prediction, features, predict
from atomjax.models.registry import (
    MODEL_SIZES,
    backbone_config,
    build_model,
    default_graph,
    init_variables,
)
from atomjax.models.scale_factors import ScaleFactorError, check_fitted, fit_scale_factors

__all__ = [
    "MODEL_SIZES",
    "AtomicModel",
    "Features",
    "HeadConfig",
    "Prediction",
    "ScaleFactorError",
    "backbone_config",
    "build_model",
    "check_fitted",
    "default_graph",
    "features",
    "fit_scale_factors",
    "init_variables",
    "predict",
]
