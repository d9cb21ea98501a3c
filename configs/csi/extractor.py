"""Train the extractor that measures similarity where no other is named.

    pip install "atomjax[crystals]"
    python -m atomjax.launch --config configs/csi/extractor.py --workdir runs/extractor
    python -m atomjax.training.running.packaged runs/extractor equiformer_v2_generated

A small EquiformerV2 learns energies and forces of crystals (CHGNet), slabs with adsorbates (EMT),
oxide clusters (GFN1-xTB), conformers and reactions (GFN2-xTB) together, with a head for each, as
the extractor of the published values did those of OC20. The last command writes its backbone
into the package. A killed run goes on where it was.

`configs/csi/extractor.py:Na,Al,P` leaves elements out of the crystals, slabs and oxides, to see
what an extractor makes of elements that it has not learnt (`python -m benchmarks.separation
--elements`).
"""

import ml_collections
from ase.symbols import string2symbols

from atomjax.recipes.sections import data_of, generated, section, training
from atomjax.structures.generate.crystals.compositions import elements
from atomjax.structures.generate.oxides import OXIDES
from atomjax.structures.generate.slabs import METALS

# Whole shells around twelve neighbours, whatever the order of the atoms; sparse crystals need 6 Å.
GRAPH = section(cutoff=6.0, cutoff_molecule=6.0, max_neighbors=12)


def get_config(left_out: str = "") -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "pretrain"
    config.seed = 0
    config.model = section(name="equiformer_v2_tiny")
    size = config.model.overrides = section()
    size.lmax = 2
    size.channels = 32
    size.attention_hidden = 32
    size.num_heads = 4
    size.ffn_hidden = 32
    size.edge_channels = 24
    size.num_elements = 100
    size.num_gaussians = 64
    size.grid_resolution = 8
    size.avg_degree = 14.0
    size.avg_num_nodes = 13.0
    size.dropout = 0.0
    size.drop_path = 0.0

    crystals, slabs, oxides = section(), section(), section()
    if left_out:
        symbols = set(left_out.split(","))
        crystals.elements = tuple(one for one in elements() if one not in symbols)
        slabs.metals = tuple(one for one in METALS if one not in symbols)
        oxides.oxides = tuple(one for one in OXIDES if not symbols & set(string2symbols(one)))
    sets = (
        generated("crystals", count=2000, seed=0, **crystals),
        generated("slabs", count=900, size=(2, 2, 3), fixed_layers=1, seed=0, **slabs),
        generated("oxides", count=700, relaxation_steps=2, seed=0, **oxides),
        generated("conformers", count=900, heavy_atoms=(2, 7), seed=0),
        generated("reactions", count=500, seed=0),
    )
    for one in sets:
        one.split = section(validation=30, test=70)
        one.graph = GRAPH
    config.data = data_of(*sets)

    train = config.train = training(batch_size=16)
    train.epochs = 8
    train.optimizer.learning_rate = 2e-3
    train.schedule.warmup_steps = 100
    train.validation.eval_every = 250
    train.validation.select_by = "force_mae"
    return config
