"""Settings for 50 to 1,000 labels: a rule from facts of the data to a config, with its reasons.

Rate, cutoff, spacing and the choice of conservative forces were measured on molecules with GFN2-xTB
labels, and then found right on copper with EMT labels (docs/accuracy.md), one seed each; the most
neighbours of oxides are not measured. Each value of a config that the rule makes can be changed
like any other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atomjax.data.facts import Facts
from atomjax.recipes.sections import Section, data_of, section, training
from atomjax.runtime.config import ConfigError
from atomjax.training.head_source import matching_head

# Å, longest first. Beyond 4 Å molecules gained nothing, and every edge is paid for.
CUTOFFS = (4.0, 3.75, 3.5, 3.25, 3.0, 2.75, 2.5)
# The most neighbours of an atom, on average: one or two shells of a metal.
MOST_NEIGHBORS = 20.0
# Å between the Gaussians of the radial basis.
SPACING = 0.27
# Steps for 50 structures. More structures take more steps and fewer epochs.
STEPS, FINETUNING_STEPS, STEPS_FOR = 2000, 1000, 50
# Fraction of the learning rate at which a pretrained backbone changes (docs/recipes.md compares it
# with the full rate and with other ways).
BACKBONE_RATE = 0.3
# Validations of a run; each takes as long as some steps.
VALIDATIONS = 20

# Forces as the energy's gradient: from few labels they are learnt better than forces by themselves,
# and energies several times better.
HEAD: dict[str, Any] = {"kind": "energy_forces", "forces": "conservative"}
# A network that is shallow and sees angles softly generalises better: 58 instead of 76 meV/Å on 50
# frames of paracetamol in the same time. With quadruplets a step takes 1.8 times as long.
GEMNET_OC: dict[str, Any] = {
    "quad_interaction": False,
    "num_spherical": 4,
    "num_before_skip": 1,
    "num_after_skip": 1,
    "num_atom": 1,
    "num_output_afteratom": 1,
    "num_atom_emb_layers": 1,
    "num_global_out_layers": 1,
}
BATCH_SIZE = 5
WARMUP_STEPS = 20
LEARNING_RATE = 2e-3

NETWORKS = ("gemnet_oc", "equiformer_v2")
# Small enough for two CPU cores; sums are scaled to the data.
EQUIFORMER_V2: dict[str, Any] = {
    "lmax": 2,
    "channels": 32,
    "attention_hidden": 32,
    "num_heads": 4,
    "ffn_hidden": 32,
    "edge_channels": 24,
    "grid_resolution": 8,
    "dropout": 0.0,
    "drop_path": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings chosen by the rule, with its reasons."""

    # Sections of a config.
    model: Section
    graph: dict[str, Any]
    head: dict[str, Any]
    train: Section
    reasons: tuple[str, ...]  # one line for each decision
    head_from: str | None = None  # head of the checkpoint to start from, or None


def train_settings(batch_size: int = BATCH_SIZE) -> Section:
    """A section "train" for few labels, without its length."""
    train = training(batch_size)
    train.optimizer.learning_rate = LEARNING_RATE
    train.optimizer.weight_decay = 0.1
    train.schedule.warmup_steps = WARMUP_STEPS
    train.schedule.final_factor = 0.01
    train.loss.energy_coefficient = 1.0
    train.loss.force_coefficient = 10.0
    train.loss.scalar_loss = "mae"
    train.loss.force_loss = "l2"
    train.averaging.ema_decay = 0.98
    train.validation.eval_batch_size = 25
    return train


def force_training(
    epochs: int, eval_every: int, batch_size: int = BATCH_SIZE, warmup_steps: int = WARMUP_STEPS
) -> Section:
    """A section "train" for few labels that keeps the weights of the least force error."""
    train = train_settings(batch_size)
    train.epochs = epochs
    train.schedule.warmup_steps = warmup_steps
    train.validation.eval_every = eval_every
    train.validation.select_by = "force_mae"
    return train


def pretraining(dataset: Section, epochs: int, eval_every: int) -> Section:
    """The config of a pretraining on one set, whose graphs have a cutoff."""
    config = section()
    config.workflow = "pretrain"
    config.seed = 0
    config.model = model_settings(dataset.graph.cutoff)
    config.head = HEAD
    config.data = data_of(dataset)
    config.train = force_training(epochs, eval_every, batch_size=16, warmup_steps=100)
    return config


def slow_backbone(train: Section) -> None:
    """Let a pretrained backbone change at a fraction of the rate of its head."""
    train.optimizer.groups = [{"pattern": "^backbone/", "multiplier": BACKBONE_RATE}]


def num_gaussians(cutoff: float) -> int:
    """The number of Gaussians of a radial basis that ends at ``cutoff`` Å."""
    return round(cutoff / SPACING) + 1


def model_settings(cutoff: float, **overrides: Any) -> Section:
    """A GemNet-OC for few labels whose graphs end at ``cutoff`` Å; ``num_blocks=1`` is quick."""
    given = {**GEMNET_OC, "num_radial": num_gaussians(cutoff), **overrides}
    return section(name="gemnet_oc_tiny", overrides=given)


def choose_settings(facts: Facts, network: str = "gemnet_oc") -> Choice:
    """The rule for random weights.

    Raises:
        ConfigError: no structure has an energy or forces.
    """
    head, why_head = _choose_head(facts)
    cutoff, why_cutoff = _choose_cutoff(facts)
    model, why_model = _choose_model(facts, network, cutoff)
    return Choice(
        model=model,
        graph={"cutoff": cutoff},
        head=head,
        train=_choose_training(facts, STEPS),
        reasons=(
            _describe(facts),
            why_head,
            why_cutoff,
            why_model,
            f"learning rate {LEARNING_RATE:g} in batches of {BATCH_SIZE}: at 5e-4 the error is "
            "half as large again",
            _describe_length(facts, STEPS),
        ),
    )


def choose_finetuning(facts: Facts, checkpoint: Mapping[str, Any]) -> Choice:
    """The rule for pretrained weights: model and graph of the checkpoint, fewer steps.

    Raises:
        ConfigError: no structure has an energy or forces.
    """
    head, why_head = _choose_head(facts)
    train = _choose_training(facts, FINETUNING_STEPS)
    train.schedule.warmup_steps = 100
    slow_backbone(train)
    overrides = dict(checkpoint["model"])
    name = overrides.pop("name")
    head_from = matching_head(checkpoint, head)
    why_start = "after 100 steps of warm-up: its new head is random at first"
    if head_from is not None:
        why_start = (
            f"and its head {head_from!r} kept: a new one takes hundreds of steps to catch up"
        )
    return Choice(
        model={"name": name, "overrides": overrides},
        graph={},
        head=head,
        head_from=head_from,
        train=train,
        reasons=(
            _describe(facts),
            why_head,
            f"model and graph of the checkpoint ({name}, step {checkpoint['step']})",
            f"the backbone at {BACKBONE_RATE} of the learning rate, {why_start}",
            _describe_length(facts, FINETUNING_STEPS),
        ),
    )


def _describe(facts: Facts) -> str:
    kind = {0: "molecules", facts.structures: "periodic structures"}
    named = kind.get(facts.periodic, f"structures, {facts.periodic:,} of them periodic,")
    return (
        f"chosen for {facts.structures:,} {named} of {facts.atoms:.0f} atoms on average "
        f"({' '.join(facts.elements)})"
    )


def _choose_head(facts: Facts) -> tuple[dict[str, Any], str]:
    """The head, and why."""
    if not facts.energies and not facts.forces:
        raise ConfigError(
            "no training structure has an energy or forces; where they are stored under names of "
            "their own, say which: own.py:FILES,energy_key=NAME,forces_key=NAME"
        )
    if not facts.forces:
        return {"kind": "energy"}, "energies alone: there are no forces"
    why = "conservative forces: from few labels the energy's gradient is learnt better than forces"
    if facts.stresses:
        why += "; stresses are there, and head.stress=true trains them too"
    return dict(HEAD), why


def _choose_cutoff(facts: Facts) -> tuple[float, str]:
    """The longest cutoff without too many neighbours, and why."""
    fitting = [c for c in CUTOFFS if facts.neighbors[c] <= MOST_NEIGHBORS]
    cutoff = max(fitting, default=min(CUTOFFS))
    why = f"cutoff {cutoff:g} Å, {facts.neighbors[cutoff]:.1f} neighbours on average: "
    if cutoff == max(CUTOFFS):
        return cutoff, why + "farther ones cost time and gain nothing"
    return cutoff, why + f"more than {MOST_NEIGHBORS:g} leave time for too few steps"


def _choose_model(facts: Facts, network: str, cutoff: float) -> tuple[Section, str]:
    """The backbone, and why."""
    count = num_gaussians(cutoff)
    why = f"{count} Gaussians, one every {SPACING:g} Å: closer ones generalise worse"
    if network == "gemnet_oc":
        why += "; a shallow network without quadruplets: a deep one learns the labels by heart"
        return model_settings(cutoff), why
    overrides = EQUIFORMER_V2 | {
        "num_gaussians": count,
        # Sums over neighbours are divided by it; atoms may have none.
        "avg_degree": max(1.0, round(facts.neighbors[cutoff], 1)),
        "avg_num_nodes": round(facts.atoms, 1),
    }
    return section(name="equiformer_v2_tiny", overrides=overrides), why


def _num_steps(facts: Facts, steps: int) -> int:
    return round(steps * max(1.0, math.sqrt(facts.structures / STEPS_FOR)))


def _choose_training(facts: Facts, steps: int) -> Section:
    """The optimisation over whole epochs of about so many steps."""
    train = train_settings()
    train.epochs = _num_epochs(facts, steps)
    num_steps = train.epochs * _steps_per_epoch(facts)
    train.validation.eval_every = max(1, num_steps // VALIDATIONS)
    train.validation.select_by = "force_mae" if facts.forces else "energy_mae"
    return train


def _steps_per_epoch(facts: Facts) -> int:
    return math.ceil(facts.structures / BATCH_SIZE)


def _num_epochs(facts: Facts, steps: int) -> int:
    return max(1, round(_num_steps(facts, steps) / _steps_per_epoch(facts)))


def _describe_length(facts: Facts, steps: int) -> str:
    return (
        f"{_num_epochs(facts, steps):,} epochs: {steps:,} steps for {STEPS_FOR} structures, and "
        "more with the root of their number"
    )
