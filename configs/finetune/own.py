"""Train on one's own extended XYZ files, 50 to 1,000 labels, with settings chosen from the data.

    python -m atomjax.launch --config configs/finetune/own.py:train.xyz,validation.xyz,test.xyz \
        --workdir runs/mine

Lengths in Å, energies in eV, forces in eV/Å, under ASE's names. One file is divided; of two the
second is the test. Other files that atomjax reads, and stores, will do as well. Further options,
after commas: checkpoint=DIR finetunes a pretrained model, network=equiformer_v2 takes that one
instead of GemNet-OC, validation=FILE and test=FILE name parts, energy_key=NAME, forces_key=NAME and
stress_key=NAME say where labels are, energy_unit=UNIT, length_unit=UNIT and force_unit=UNIT give
other units. The data card says what was chosen and why; --print-config shows the config, each value
of which can be changed, as in --config.train.optimizer.learning_rate=1e-3. Test errors are in
results.json.
"""

import ml_collections

from atomjax.recipes.own_data import own_config


def get_config(files: str = "") -> ml_collections.ConfigDict:
    return own_config(files)
