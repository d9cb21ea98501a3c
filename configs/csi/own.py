"""Which of one's own data sets is nearest to a task? Every measure, in one table.

    python -m atomjax.launch --config configs/csi/own.py:first.xyz,second.xyz,task=task.xyz \
        --workdir runs/own_csi

Files in extended XYZ, others that atomjax reads, and stores will do; labels are not needed. Without
task= the last file is the task; task= alone compares it with the atlas of known families. Data sets
are named after their files. The first measure, the CSI, decides; report.md and csi.csv have all of
them, with intervals and noise floors where these are known, and a map of the sets in feature space.
checkpoint=DIR takes the features of another model than the extractor that comes with the package;
elements that an extractor was not trained on are named.

budget=12000 goes on to try the sets, which need labels then: short pretrainings on all, longer ones
on those from which the task was learnt best, up to that many samples, and a report that says which
to pretrain on and what the choice cost. Each value of --print-config can be changed, as in
--config.halving.first=3.
"""

import ml_collections

from atomjax.recipes.own_sets import csi_config
from atomjax.similarity.measures.registry import BUILT_IN
from atomjax.structures.atlas import atlas


def get_config(files: str = "") -> ml_collections.ConfigDict:
    return csi_config(files, [measure.name for measure in BUILT_IN], atlas().values())
