"""Finetune on all tasks of a suite, one after the other, and put the results in the papers' tables.

    python -m atomjax.launch --config configs/finetune/benchmark.py:matbench --workdir runs/matbench

Arguments: a suite (default csi); small (default), large, equiformer_v2 (31M), equiformer_v2_83M or
equiformer_v2_153M. The suites: csi, the four tasks of the second paper's table 1; ood, the three of
its table 4; qm9 (12 tasks), rmd17 and rmd17_few (10 molecules, 950 or 50 frames), md22 (7), spice
(2), qmof, matbench (9 tasks, 5 folds each), and all. Files are looked for below $ATOMJAX_DATA_DIR;
the pretrained model in runs/pretrain (jmp_small, jmp_large or the EquiformerV2's name), or

    --config.changes='{"finetune.checkpoint": "runs/ani1x"}' --config.seeds=0,1,2

(``None`` instead of a path: from scratch). ``changes`` go to every task. The same command resumes.
Published: see ``python -m atomjax.studies.published``.
"""

from typing import Any

import ml_collections

from atomjax.recipes import downstream as tasks
from atomjax.recipes.networks import NETWORKS
from atomjax.recipes.sections import section
from atomjax.recipes.words import choose, data_root

CSI = ("rmd17_aspirin", "md22_Ac-Ala3-NHMe", "spice_solvated_amino_acids", "qm9_U0")
OOD = ("qm9_gap", "qmof", "matbench_phonons")
SUITES = ("csi", "ood", "rmd17", "rmd17_few", "md22", "spice", "qm9", "qmof", "matbench", "all")


def all_tasks(model: str, root: str) -> Any:
    """Task → its config; the name begins with that of its suite."""
    found = section()
    for molecule in tasks.RMD17_MOLECULES:
        found[f"rmd17_{molecule}"] = tasks.rmd17(molecule, model, "full", root)
    for molecule in tasks.RMD17_MOLECULES:
        found[f"rmd17_few_{molecule}"] = tasks.rmd17(molecule, model, "few", root)
    for molecule in tasks.MD22_MOLECULES:
        found[f"md22_{molecule}"] = tasks.md22(molecule, model, root)
    for subset in tasks.SPICE_SUBSETS:
        found[f"spice_{subset}"] = tasks.spice(subset, model, root)
    for target in tasks.QM9_TARGETS:
        found[f"qm9_{target}"] = tasks.qm9(target, model, root)
    found.qmof = tasks.qmof(model, root)
    for task in tasks.MATBENCH_TASKS:
        found[f"matbench_{task}"] = tasks.matbench(task, model, 0, root)
        found[f"matbench_{task}"].finetune.folds = (0, 1, 2, 3, 4)
    return found


def belongs(task: str, suite: str) -> bool:
    chosen = {"csi": CSI, "ood": OOD}
    if suite in chosen:
        return task in chosen[suite]
    few = task.startswith("rmd17_few")
    return suite == "all" or (task.startswith(suite) and few == (suite == "rmd17_few"))


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    chosen = choose(argument, {"suite": SUITES, "model": tuple(NETWORKS)})
    config = section()
    config.workflow = "benchmark"
    config.seeds = (0,)
    config.tasks = section()
    for name, task in all_tasks(chosen["model"], data_root()).items():
        if belongs(name, chosen["suite"]):
            config.tasks[name] = task
    if chosen["suite"] == "ood":
        # The second paper's rate on QMOF (appendix D).
        config.tasks.qmof.train.optimizer.learning_rate = 5e-5
    return config
