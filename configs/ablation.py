"""The parts of JMP's recipe one after the other, at small scale, as one sweep with a table.

    python -m atomjax.launch --config configs/ablation.py --workdir runs/ablation

After tables 6, 12 and 13 of Shoghi et al. (ICLR 2024). Joint pretraining on three generated sets of
unequal sizes: conformers (GFN2-xTB), oxide clusters (GFN1-xTB) and slabs with adsorbates (EMT),
then finetuning on 30 frames of a molecular dynamics of aspirin. The variants of pretraining add to
the naive baseline: sampling with temperature 2, the structure-wise loss, weight decay 0.1 instead
of 0.01 (or dropout), edge dropout, and averaged weights. The variants of the schedule share the
pretraining of the last one and change the finetuning: its cosine alone, with layer-wise rates, and
with reduction on a plateau, for which 16 epochs follow the cosine's 32.

This is about the smallest that runs all parts, 14 pretrainings and 18 finetunings: with one task
and two seeds, differences below tens of percent mean nothing. The full scale is the same file with
other data, model and epochs (``--config.base.model.name=...``).
Published mean improvements over B: T2 2.2 %, SWL 7.7, WD 11.4, DO 11.4, ED 13.2, EMA 12.4.
"""

from typing import Any

import ml_collections

from atomjax.recipes.sections import data_of, generated, section, training, variant

GRAPH = section(cutoff=4.0)
# The rate of all layers at the end, as a fraction of the peak rate.
FLOOR = 0.1
# After table 18, for the two blocks of the tiny model.
LAYERS = (
    ("^backbone/embedding", 0.3),
    ("^backbone/(int_blocks_0|out_blocks_[01])/", 0.4),
    ("^backbone/(int_blocks_1|out_blocks_2)/", 0.625),
)


def temperature(config: Any) -> None:
    config.pretraining.data.mixture = section(kind="temperature", temperature=2.0)


def structure_loss(config: Any) -> None:
    config.pretraining.train.loss.force_reduction = "structure"


def weight_decay(config: Any) -> None:
    config.pretraining.train.optimizer.weight_decay = 0.1


def dropout(config: Any) -> None:
    config.pretraining.train.regularization.dropout = 0.1


def edge_dropout(config: Any) -> None:
    config.pretraining.train.regularization.edge_dropout = 0.1


def averages(config: Any) -> None:
    config.pretraining.train.averaging.ema_decay = 0.99
    # JMP's average begins with the initial weights.
    config.pretraining.train.averaging.ema_warmup = False
    config.finetuning.averaged = True


def layer_rates(config: Any) -> None:
    config.finetuning.train.optimizer.groups = [
        section(pattern=pattern, multiplier=factor, final_factor=FLOOR / factor)
        for pattern, factor in LAYERS
    ]


def plateau(config: Any) -> None:
    config.finetuning.train.epochs = 48
    config.finetuning.train.schedule.plateau = section(patience=1, factor=0.5)


T2 = (temperature,)
SWL = (*T2, structure_loss)
WD = (*SWL, weight_decay)
DO = (*SWL, dropout)
ED = (*WD, edge_dropout)
EMA = (*ED, averages)
LLRD = (*EMA, layer_rates)
RLP = (*LLRD, plateau)


def base_config() -> Any:
    config = section()
    config.workflow = "transfer"
    config.model = section(name="gemnet_oc_tiny")
    # Without quadruplets, to be quicker.
    config.model.overrides = section(quad_interaction=False)

    upstream = config.pretraining = section()
    upstream.data = data_of(
        generated("conformers", count=360, heavy_atoms=(2, 6), seed=0),
        generated("oxides", count=110, relaxation_steps=2, seed=0),
        generated("slabs", count=60, size=(2, 2, 3), fixed_layers=1, seed=0),
    )
    for dataset in upstream.data.train:
        dataset.split = section(validation=10)
        dataset.graph = GRAPH
    upstream.data.mixture = section(kind="proportional")
    upstream.train = training(batch_size=10)
    upstream.train.epochs = 6
    upstream.train.optimizer.learning_rate = 1e-3
    upstream.train.optimizer.weight_decay = 0.01
    upstream.train.schedule.warmup_steps = 40
    upstream.train.schedule.final_factor = 0.1
    upstream.train.loss.force_reduction = "atom"
    upstream.train.averaging.ema_decay = 0.0
    upstream.train.validation.eval_every = 147

    aspirin = generated("aspirin", generator="dynamics", count=160, molecule="aspirin", seed=0)
    aspirin.split = section(train=30, validation=30, test=100)
    aspirin.graph = GRAPH
    downstream = config.finetuning = section()
    downstream.averaged = False
    downstream.head = section(kind="energy_forces", forces="direct")
    downstream.data = data_of(aspirin)
    downstream.train = training(batch_size=5)
    downstream.train.epochs = 32
    downstream.train.optimizer.learning_rate = 5e-4
    downstream.train.schedule.decay_epochs = 32
    downstream.train.schedule.warmup_steps = 12
    downstream.train.schedule.final_factor = FLOOR
    downstream.train.validation.eval_every = 24
    downstream.train.validation.select_by = "force_mae"
    return config


def get_config() -> ml_collections.ConfigDict:
    config = section()
    config.workflow = "sweep"
    config.seeds = (0, 1)
    config.base = base_config()
    config.variants = [
        variant("B", config.base, ()),
        variant("T2", config.base, T2),
        variant("SWL", config.base, SWL),
        variant("WD", config.base, WD),
        variant("DO", config.base, DO),
        variant("ED", config.base, ED),
        variant("EMA", config.base, EMA),
        variant("EMA+LLRD", config.base, LLRD),
        variant("EMA+LLRD+RLP", config.base, RLP),
    ]
    return config
