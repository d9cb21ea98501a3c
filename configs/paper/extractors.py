"""Does the order of upstream sets depend on the network that computes the features?

    python -m atomjax.launch --config configs/paper/extractors.py --workdir runs/extractors

Six of the sets and four of the tasks of configs/paper/survey.py, compared by the three networks
that come with atomjax: two EquiformerV2, one of them trained on slabs alone, and the GemNet-OC of
atomjax-molecules, which was trained on molecules. The report has a table and a figure for each;
distances of different networks cannot be compared, orders can. A directory takes the place of a
name: with the published EquiformerV2 31M of OC20, ODAC and the Materials Project it is the question
of the paper.

What was found is in docs/csi.md.
"""

import ml_collections

from atomjax.recipes import small_sets
from atomjax.recipes.sections import section

GRAPH = section(cutoff=4.0)


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "csi"
    config.seed = 0
    config.candidates = small_sets.upstream_sets(340, 40, GRAPH)
    config.downstream = list(small_sets.downstream_sets().values())
    for task in config.downstream:
        task.split = section(train=50, validation=50, test=200)
        task.graph = GRAPH
    config.sampling = section(strategy="balanced_unique", size=50)
    config.invariants = ("none",)
    config.measures = ("csi",)
    config.mixtures = ()
    config.views = section()
    config.views.extractors = [
        section(checkpoint="equiformer_v2_slabs"),
        section(checkpoint="atomjax-molecules"),
    ]
    return config
