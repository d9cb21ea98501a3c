"""Charges and spins that records state, and those that a model without either cannot tell apart."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atomjax.structures.structure import Structure

# Names of targets that say which state was computed; e.
CHARGES = ("charge", "total_charge")
MULTIPLICITIES = ("spin_multiplicity", "multiplicity")
# "spin" is S, the number of unpaired electrons, or the multiplicity.
SPIN = "spin"
STATES = (*CHARGES, SPIN, *MULTIPLICITIES)
# The lowest of even and of odd numbers of electrons.
LOWEST_MULTIPLICITY = ({1.0}, {2.0})
LOWEST_SPIN = ({0.0, 1.0}, {0.5, 1.0, 2.0})


@dataclass(frozen=True)
class StateCounts:
    """Values of one charge or spin among structures."""

    name: str  # one of `STATES`
    # (value, whether the number of electrons is odd) → structures.
    counts: Counter[tuple[float, bool]]
    without: int  # structures without it

    @property
    def is_lowest(self) -> bool:
        """True where all that is known is neutral, or has the lowest spin of its electrons."""
        if self.name in CHARGES:
            return all(value == 0 for value, _ in self.counts)
        lowest = LOWEST_SPIN if self.name == SPIN else LOWEST_MULTIPLICITY
        found = [{value for value, odd in self.counts if odd == parity} for parity in (0, 1)]
        return all(len(own) <= 1 and own <= low for own, low in zip(found, lowest, strict=True))

    def __str__(self) -> str:
        values: Counter[float] = Counter()
        for (value, _), count in self.counts.items():
            values[value] += count
        parts = [f"{value:g} of {count:,}" for value, count in sorted(values.items())]
        return ", ".join([*parts, *([f"not given of {self.without:,}"] if self.without else [])])


def count_states(
    structures: Iterable[Structure], trained_on: Sequence[str] = ()
) -> list[StateCounts]:
    """The charges and spins that any of the structures states.

    Args:
        structures: structures in memory.
        trained_on: targets that are properties to learn, and so no states.
    """
    names = [name for name in STATES if name not in trained_on]
    counts: dict[str, Counter[tuple[float, bool]]] = {name: Counter() for name in names}
    total = 0
    for structure in structures:
        total += 1
        known = {n: v for n in names if isinstance(v := structure.targets.get(n), float)}
        if not known:
            continue
        charge = next((known[name] for name in CHARGES if name in known), 0.0)
        odd = bool(round(float(structure.atomic_numbers.sum()) - charge) % 2)
        for name, value in known.items():
            counts[name][value, odd] += 1
    found = {name: own for name, own in counts.items() if own}
    return [StateCounts(name, own, total - own.total()) for name, own in found.items()]
