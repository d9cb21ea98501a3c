"""atomjax: data-efficient pretraining of atomic-property models in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atomjax.inference.embeddings import features

__version__ = "0.1.0"
__all__ = ["__version__", "features"]


def __getattr__(name: str) -> Any:
    """``atomjax.features``, which needs jax: importing atomjax alone does not."""
    if name == "features":
        from atomjax.inference.embeddings import features

        return features
    raise AttributeError(f"module 'atomjax' has no attribute {name!r}")
