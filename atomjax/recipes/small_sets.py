"""Six upstream sets and four tasks that are labelled on two cores in minutes, for studies."""

from typing import Any

from atomjax.recipes.sections import Section, generated

SALICYLIC_ACID = "O=C(O)c1ccccc1O"


def upstream_sets(count: int, validation: int, graph: Section) -> list[Section]:
    """Conformers, reactions, a trajectory, slabs of metals and of alloys, and oxide clusters."""
    slabs: dict[str, Any] = {
        "generator": "slabs",
        "size": (2, 2, 2),
        "fixed_layers": 1,
        "seed": 1,
        "count": count,
    }
    sets = [
        generated("conformers", count=count, heavy_atoms=(2, 7), seed=0),
        generated("reactions", count=count, seed=0),
        generated("trajectory", generator="dynamics", count=count, molecule=SALICYLIC_ACID, seed=0),
        generated("slabs", alloys=0.0, **slabs),
        generated("alloys", alloys=1.0, adsorbates=("O", "H"), **slabs),
        generated("oxides", count=count, relaxation_steps=2, seed=0),
    ]
    for one in sets:
        one.split = {"validation": validation}
        one.graph = graph
    return sets


def downstream_sets(count: int = 320) -> dict[str, Section]:
    """Aspirin, molecules with atomization energies, surfaces and oxide clusters, by name.

    Args:
        count: structures of each.
    """
    aspirin = generated("aspirin", generator="dynamics", count=count, molecule="aspirin", seed=0)
    molecules = generated("molecules", generator="properties", count=count, seed=0)
    molecules.arguments.heavy_atoms = (2, 6)
    surfaces = generated("surfaces", generator="slabs", count=count, size=(2, 2, 2), seed=2)
    surfaces.arguments.fixed_layers = 1
    surfaces.arguments.metals = ("Pd", "Pt")
    surfaces.arguments.adsorbates = ("CH3OH", "H2CO", "C2H4")
    clusters = generated("clusters", generator="oxides", count=count, seed=3, relaxation_steps=2)
    clusters.arguments.oxides = ("CoO", "TiO2")
    return {one.name: one for one in (aspirin, molecules, surfaces, clusters)}
