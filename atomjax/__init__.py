"""atomjax: data-efficient pretraining of atomic-property models in JAX."""

__version__ = "0.1.0"
