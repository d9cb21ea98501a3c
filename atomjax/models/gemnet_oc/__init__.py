"""GemNet-OC (Gasteiger et al., 2022), the backbone of JMP (Shoghi et al., 2024)."""

from atomjax.models.gemnet_oc.config import GEMNET_OC_SIZES, GemNetOCConfig
from atomjax.models.gemnet_oc.network import GemNetOC

__all__ = ["GEMNET_OC_SIZES", "GemNetOC", "GemNetOCConfig"]
