"""What is to be predicted against what is labelled."""

import numpy as np
import pytest

from atomjax.batching import GraphDataset
from atomjax.runtime.config import ConfigError
from atomjax.structures import Structure
from atomjax.structures.store import Store, write_store
from atomjax.training.job import check_labels
from atomjax.training.settings import HeadSettings

DIPOLE = HeadSettings(kind="scalar", target="mu", unit="D", pooling="dipole")


def molecule(periodic: bool = False, forces: bool = False) -> Structure:
    return Structure(
        atomic_numbers=[8, 1],
        positions=[[0, 0, 0], [0, 0, 1]],
        cell=9 * np.eye(3) if periodic else None,
        pbc=periodic,
        energy=-1.0,
        forces=np.zeros((2, 3)) if forces else None,
        targets={"mu": 1.0},
    )


@pytest.mark.parametrize("stored", [False, True])
def test_any_periodic_structure_is_refused_by_moments_of_charges(tmp_path, stored):
    structures = [molecule(), molecule(), molecule(periodic=True)]
    given = write_store(tmp_path / "store", structures) if stored else structures
    with pytest.raises(ConfigError, match='"dipole" is for molecules'):
        check_labels(DIPOLE, [GraphDataset("set", given)])
    check_labels(DIPOLE, [GraphDataset("set", given[:2])])


def test_labels_of_a_store_are_looked_up_without_reading_it(tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", [molecule(), molecule(forces=True)])
    monkeypatch.setattr(Store, "_read", lambda *_: pytest.fail("a structure was read"))
    head = HeadSettings(kind="energy_forces", forces="direct")
    check_labels(head, [GraphDataset("set", store)])
    with pytest.raises(ConfigError, match="no training structure of dataset"):
        check_labels(head, [GraphDataset("set", store[:1])])
