"""Pretraining under a budget, on one upstream data set or on a mixture of four.

    python -m atomjax.launch --config configs/pretrain/budget.py:ani1x,small,2M --workdir runs/ani1x

Arguments: ani1x (default), transition1x, oc20, oc22, oc20-2M (that published part of it), omat24
(its crystals rattled at 300 K), balanced, temperature or ani1x+oc22 (2 and 1 million); small
(default), large (GemNet-OC), equiformer_v2 (31M), equiformer_v2_83M or equiformer_v2_153M; 2M
(default), 1M, 3M (structures, 5 epochs) or 1Mx10. Files are looked for below $ATOMJAX_DATA_DIR, or
``--config.data.root``. Published for 2M (1 to 2 days of one A100, small):
finetuned on aspirin 5.4, 10.1, 14.6 and 16.0 meV/Å from the first four sets, 9.4 balanced and 11.0
with the temperature; large 4.8, 9.7, 13.8 and 12.0.
"""

import ml_collections

from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.upstream import BUDGETS, UPSTREAMS, limited
from atomjax.recipes.words import choose, data_root


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(
        argument,
        {"upstream": UPSTREAMS, "model": tuple(NETWORKS), "budget": tuple(BUDGETS)},
    )
    return limited(**chosen, root=data_root())
