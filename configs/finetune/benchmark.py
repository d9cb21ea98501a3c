"""Finetune on all tasks of a suite, one after the other, and put the results in the papers' tables.

    python -m atomjax.launch --config configs/finetune/benchmark.py:matbench --workdir runs/matbench

Arguments: a suite (default csi); small (default), large or equiformer_v2. The suites: csi, the four
tasks of the second paper's table 1; ood, the three of its table 4; qm9 (12 tasks), rmd17 and
rmd17_few (10 molecules, 950 or 50 frames), md22 (7), spice (2), qmof, matbench (8 tasks, 5 folds
each), and all.
Files are looked for below $ATOMJAX_DATA_DIR; the pretrained model in runs/pretrain/jmp_small,
jmp_large or equiformer_v2_31M, or

    --config.changes='{"finetune.checkpoint": "runs/ani1x"}' --config.seeds=0,1,2

(``None`` instead of a path: from scratch). ``changes`` go to every task. The same command resumes.
Published: see ``python -m atomjax.recipes.tables``.
"""

from atomjax.recipes import downstream as tasks
from atomjax.recipes.words import choose, data_root
from atomjax.runtime.config import change

FOLDS = [0, 1, 2, 3, 4]


def matbench(task: str, model: str, root: str) -> dict:
    config = tasks.matbench(task, model, 0, root)
    config["finetune"]["folds"] = FOLDS
    return config


def suites(model: str, root: str) -> dict[str, dict[str, dict]]:
    single = {
        "rmd17": {
            f"rmd17_{molecule}": tasks.rmd17(molecule, model, "full", root)
            for molecule in tasks.RMD17_MOLECULES
        },
        "rmd17_few": {
            f"rmd17_few_{molecule}": tasks.rmd17(molecule, model, "few", root)
            for molecule in tasks.RMD17_MOLECULES
        },
        "md22": {
            f"md22_{molecule}": tasks.md22(molecule, model, root)
            for molecule in tasks.MD22_MOLECULES
        },
        "spice": {
            f"spice_{subset}": tasks.spice(subset, model, root) for subset in tasks.SPICE_SUBSETS
        },
        "qm9": {f"qm9_{target}": tasks.qm9(target, model, root) for target in tasks.QM9_TARGETS},
        "qmof": {"qmof": tasks.qmof(model, root)},
        "matbench": {
            f"matbench_{task}": matbench(task, model, root) for task in tasks.MATBENCH_TASKS
        },
    }
    everything = {name: config for suite in single.values() for name, config in suite.items()}
    chosen = {
        "csi": ("rmd17_aspirin", "md22_Ac-Ala3-NHMe", "spice_solvated_amino_acids", "qm9_U0"),
        "ood": ("qm9_gap", "qmof", "matbench_phonons"),
    }
    named = {suite: {name: everything[name] for name in names} for suite, names in chosen.items()}
    # The second paper's rate on QMOF (appendix D).
    named["ood"]["qmof"] = change(everything["qmof"], {"train.learning_rate": 5e-5})
    return {**named, **single, "all": everything}


def get_config(argument: str = "") -> dict:
    names = ("csi", "ood", "rmd17", "rmd17_few", "md22", "spice", "qm9", "qmof", "matbench", "all")
    chosen = choose(argument, {"suite": names, "model": tuple(tasks.MODELS)})
    suite = suites(chosen["model"], data_root())[chosen["suite"]]
    return {"workflow": "benchmark", "seeds": [0], "tasks": suite}
