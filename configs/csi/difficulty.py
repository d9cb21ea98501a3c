"""Choose structures of one's own file by how hard they are for a trained model.

    python -m atomjax.launch --workdir runs/hard \
        --config configs/csi/difficulty.py:pool.xyz,checkpoint=runs/mine,size=500

choose=high takes the hardest (the default), low the easiest, mid some of the middle third, mixed as
many of each third, and variance, without labels, those that the model knows least. head=NAME says
which of several heads predicts; energy_key=NAME and so on say where labels are, as for
configs/finetune/own.py. The choice is a store, runs/hard/selected, that any config or command takes
in place of a file.
"""

import ml_collections

from atomjax.recipes.own_sets import difficulty_config


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    return difficulty_config(argument)
