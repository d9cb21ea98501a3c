"""EquiformerV2 (Liao et al., 2024), whose features measure the similarity of data sets."""

from atomjax.models.equiformer_v2.config import EquiformerV2Config
from atomjax.models.equiformer_v2.entry import EQUIFORMER_V2, published_graph
from atomjax.models.equiformer_v2.network import EquiformerV2

__all__ = ["EQUIFORMER_V2", "EquiformerV2", "EquiformerV2Config", "published_graph"]
