"""The rule for small data, and the config for one's own files that is made by it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest
from ase.io import write

from atomjax.data.facts import Facts, facts_of
from atomjax.launch import main
from atomjax.models import HeadConfig
from atomjax.recipes.own_data import own_config, own_entry, training_config
from atomjax.recipes.small_data import (
    CUTOFFS,
    MOST_NEIGHBORS,
    STEPS,
    choose_finetuning,
    choose_settings,
)
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store
from atomjax.training.settings import RunSettings
from tests.own_files import labelled
from tests.smallest import NO_LAYERS

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "finetune" / "own.py"
MOLECULES = Facts(
    structures=50,
    elements=["H", "C", "O"],
    periodic=0,
    atoms=21.0,
    neighbors={cutoff: 12.0 * cutoff / 4.0 for cutoff in CUTOFFS},
    energies=50,
    forces=50,
    stresses=0,
)


def steps(choice) -> int:
    per_epoch = -(-MOLECULES.structures // choice.train.batching.batch_size)
    return choice.train.epochs * per_epoch


def test_facts_count_labels_and_shells() -> None:
    copper = ase.build.bulk("Cu", "fcc", a=3.6, cubic=True)
    crystal = Structure(
        atomic_numbers=copper.numbers,
        positions=copper.positions,
        cell=copper.cell.array,
        pbc=True,
        energy=0.0,
        forces=np.zeros((4, 3)),
        stress=np.zeros((3, 3)),
    )
    atom = Structure(atomic_numbers=[1], positions=np.zeros((1, 3)), energy=1.0)
    alone = facts_of([crystal], CUTOFFS)
    # The shells of fcc: 12 at a / sqrt(2) = 2.55 Å, 6 at a, 24 at 4.41 Å.
    assert alone.neighbors == {4.0: 18, 3.75: 18, 3.5: 12, 3.25: 12, 3.0: 12, 2.75: 12, 2.5: 0}
    assert (alone.energies, alone.forces, alone.stresses, alone.periodic) == (1, 1, 1, 1)
    both = facts_of([crystal, atom], CUTOFFS)
    assert both.neighbors[3.0] == pytest.approx(12 * 4 / 5)
    assert (both.structures, both.atoms, both.elements) == (2, 2.5, ["H", "Cu"])
    assert (both.energies, both.forces, both.stresses, both.periodic) == (2, 1, 1, 1)


def test_facts_of_a_store_are_those_of_its_structures_and_read_some(tmp_path, monkeypatch) -> None:
    positions = np.array([[0.0, 0, 0], [0.0, 0, 1.0]])
    pairs = [Structure(atomic_numbers=[1, z], positions=positions) for z in (1, 8) * 60]
    store = write_store(tmp_path / "store", pairs)
    read = []
    whole = Store._read
    monkeypatch.setattr(Store, "_read", lambda own, i: read.append(i) or whole(own, i))
    assert facts_of(store, CUTOFFS) == facts_of(pairs, CUTOFFS)
    assert len(read) == 50


def test_molecules() -> None:
    choice = choose_settings(MOLECULES)
    assert choice.graph == {"cutoff": 4.0}
    assert choice.head == {"kind": "energy_forces", "forces": "conservative"}
    assert choice.model["overrides"]["quad_interaction"] is False
    assert steps(choice) == STEPS
    assert any("4 Å" in reason for reason in choice.reasons)


def test_atoms_without_neighbors() -> None:
    facts = dataclasses.replace(MOLECULES, neighbors=dict.fromkeys(CUTOFFS, 0.0))
    overrides = choose_settings(facts, network="equiformer_v2").model["overrides"]
    assert overrides["avg_degree"] == 1


@pytest.mark.parametrize("density", [1.0, 1.5, 2.5, 8.0])
def test_the_denser_the_shorter_the_cutoff(density: float) -> None:
    neighbors = {c: MOST_NEIGHBORS * density * (c / 4.0) ** 3 for c in CUTOFFS}
    facts = dataclasses.replace(MOLECULES, neighbors=neighbors, periodic=50)
    cutoff = choose_settings(facts).graph["cutoff"]
    longer = [c for c in CUTOFFS if c > cutoff]
    assert all(neighbors[c] > MOST_NEIGHBORS for c in longer)
    assert neighbors[cutoff] <= MOST_NEIGHBORS or cutoff == min(CUTOFFS)
    # Gaussians keep their distance.
    count = choose_settings(facts).model["overrides"]["num_radial"]
    assert 0.25 < cutoff / (count - 1) < 0.3


def test_more_labels_take_more_steps_and_fewer_epochs() -> None:
    few = choose_settings(MOLECULES).train
    many = choose_settings(dataclasses.replace(MOLECULES, structures=800)).train
    assert many.epochs < few.epochs
    assert many.epochs * 800 == pytest.approx(4 * few.epochs * 50, rel=0.05)


def test_labels_decide_the_head() -> None:
    no_forces = dataclasses.replace(MOLECULES, forces=0)
    assert choose_settings(no_forces).head == {"kind": "energy"}
    assert choose_settings(no_forces).train.validation.select_by == "energy_mae"
    with pytest.raises(ConfigError, match="energy_key=NAME"):
        choose_settings(dataclasses.replace(no_forces, energies=0))
    stress = choose_settings(dataclasses.replace(MOLECULES, stresses=50))
    assert any("head.stress=true" in reason for reason in stress.reasons)


def test_finetuning_keeps_the_model_of_the_checkpoint() -> None:
    head = dataclasses.asdict(HeadConfig(name="upstream", forces="conservative"))
    checkpoint: dict[str, Any] = {
        "model": {"name": "gemnet_oc_small", "num_blocks": 3},
        "step": 7,
        "heads": [head],
    }
    choice = choose_finetuning(MOLECULES, checkpoint)
    assert choice.head_from == "upstream"
    # A stress follows from the same parameters.
    stressed = {**checkpoint, "heads": [{**head, "stress": True}]}
    assert choose_finetuning(MOLECULES, stressed).head_from == "upstream"
    for heads in ([head, {**head, "name": "other"}], [{**head, "forces": "direct"}]):
        assert choose_finetuning(MOLECULES, {**checkpoint, "heads": heads}).head_from is None
    assert choice.model == {"name": "gemnet_oc_small", "overrides": {"num_blocks": 3}}
    assert choice.graph == {}
    assert steps(choice) < STEPS
    assert choice.train.optimizer.groups == [{"pattern": "^backbone/", "multiplier": 0.3}]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Part → path of a file."""
    paths = {}
    for seed, (part, count) in enumerate({"train": 20, "validation": 6, "test": 8}.items()):
        paths[part] = str(tmp_path / f"{part}.xyz")
        write(paths[part], labelled(count, seed, "CH3OH"), format="extxyz")
    return paths


def settings(argument: str) -> RunSettings:
    return RunSettings.from_config(own_config(argument))


def test_three_files_are_taken_as_they_are(files) -> None:
    data = settings(f"{files['train']},{files['validation']},{files['test']}").data
    assert data.train[0].split is None
    paths = [part[0].path for part in (data.train, data.validation, data.test)]
    assert paths == list(files.values())


def test_what_has_no_file_is_held_out(files) -> None:
    one, two = settings(files["train"]), settings(f"{files['train']},{files['test']}")
    assert one.data.train[0].split is not None
    assert (one.data.train[0].split.validation, one.data.train[0].split.test) == (0.15, 0.25)
    assert "chosen for 12 molecules" in "\n".join(one.notes or ())
    assert two.data.train[0].split is not None
    assert (two.data.train[0].split.validation, two.data.train[0].split.test) == (0.15, 0)
    assert two.data.test[0].path == files["test"]


def test_an_entry_brings_its_split_and_its_graph(files) -> None:
    split = {"train": 6, "validation": 2, "test": 2, "seed": 3}
    entry = {**own_entry("mine", Path(files["train"]), {}), "split": split}
    entry["graph"] = {"cutoff": 3.5}
    (chosen,) = RunSettings.from_config(training_config({"train": entry})).data.train
    assert (chosen.split.train, chosen.split.test, chosen.split.seed) == (6, 2, 3)
    assert chosen.graph.cutoff == 3.5
    other = own_entry("mine", Path(files["validation"]), {})
    with pytest.raises(ConfigError, match="a split of their own beside data for validation"):
        training_config({"train": entry, "validation": other})
    with pytest.raises(ConfigError, match=r'of kind "generate".*a file or a store'):
        training_config({"train": {"kind": "generate", "generator": "slabs", "name": "own"}})


def test_labels_under_names_of_their_own(tmp_path) -> None:
    frames = labelled(4, 0, "CH3OH")
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
    write(tmp_path / "mine.xyz", frames, format="extxyz")
    path = f"{tmp_path / 'mine.xyz'},{tmp_path / 'mine.xyz'},{tmp_path / 'mine.xyz'}"
    with pytest.raises(ConfigError, match="energy_key=NAME,forces_key=NAME"):
        own_config(path)
    keys = ",energy_key=REF_energy,forces_key=REF_forces"
    assert settings(path + keys).data.test[0].arguments == {
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
    }


def test_mistakes_in_the_argument(files) -> None:
    with pytest.raises(ConfigError, match="one to three files, not 0"):
        own_config("")
    with pytest.raises(ConfigError, match="Did you mean 'checkpoint'"):
        own_config(f"{files['train']},chekpoint=runs/x")
    with pytest.raises(ConfigError, match=r"'nowhere\.xyz' is not a file"):
        own_config("nowhere.xyz")
    with pytest.raises(ConfigError, match="gemnet_oc, equiformer_v2"):
        own_config(f"{files['train']},network=mace")


def test_a_file_is_all_that_a_user_needs(files, tmp_path, capsys) -> None:
    small = {"num_blocks": 1, "emb_size_edge": 16, **NO_LAYERS}
    status = main(
        [
            f"--config={CONFIG}:{','.join(files.values())}",
            f"--workdir={tmp_path / 'run'}",
            *(f"--config.model.overrides.{key}={value}" for key, value in small.items()),
            "--config.train.epochs=8",
            "--config.train.validation.eval_every=16",
            "--config.train.batching.scale_factor_batches=1",
        ]
    )
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "settings" in shown
    assert "conservative forces: from few labels" in shown
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    errors = results["test"]["own"]
    assert 0 < errors["force_mae_mev_per_angstrom"] < 1e4
    assert results["steps"] == 8 * 4
