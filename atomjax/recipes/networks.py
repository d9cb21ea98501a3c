"""The networks of the papers' recipes, by the words that choose them in configs."""

from atomjax.recipes.sections import Section, section

GEMNET_OC = {"small": "gemnet_oc_small", "large": "gemnet_oc_large"}
EQUIFORMER_V2 = {
    "equiformer_v2": "equiformer_v2_31M",
    "equiformer_v2_83M": "equiformer_v2_83M",
    "equiformer_v2_153M": "equiformer_v2_153M",
}
NETWORKS = {**GEMNET_OC, **EQUIFORMER_V2}


def network(word: str) -> Section:
    """Section "model" of a network whose radial basis ends at 12 Å, whatever its graphs do."""
    if word in GEMNET_OC:
        overrides = section(rbf_cutoff=12.0)
    else:
        overrides = section(cutoff=12.0, envelope_exponent=None)
    return section(name=NETWORKS[word], overrides=overrides)
