"""GemNet-OC (Gasteiger et al., 2022), the backbone of JMP (Shoghi et al., 2024)."""

from atomjax.models.gemnet_oc.config import GemNetOCConfig
from atomjax.models.gemnet_oc.entry import GEMNET_OC, PUBLISHED_GRAPH
from atomjax.models.gemnet_oc.network import GemNetOC

__all__ = ["GEMNET_OC", "PUBLISHED_GRAPH", "GemNetOC", "GemNetOCConfig"]
