"""Columns of a comparison, each a measure on a kind of features, and their names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atomjax.similarity.measures.measure import Measure


@dataclass(frozen=True)
class Column:
    """One measure on one kind of features."""

    measure: Measure
    variant: str  # name of the features, or of the view: another sample or backbone
    leads: bool = True  # whether the measure is the one that recommendations follow
    first: bool = True  # whether the features are those that they follow

    @property
    def name(self) -> str:
        """Name of the column in ``csi.csv``."""
        return self.measure.name if self.first else f"{self.measure.name}_{self.variant}"

    @property
    def title(self) -> str:
        """Title in reports and figures."""
        return self.measure.label if self.first else f"{self.measure.label}, {self.variant}"

    def fact(self, name: str) -> str:
        """Name in ``csi.csv`` of a further column of its values."""
        if self.leads:
            return name if self.first else f"{name}_{self.variant}"
        return f"{name}_{self.name}"


def all_columns(measures: Sequence[Measure], variants: Iterable[str]) -> list[Column]:
    """Every measure on all variants of features, the deciding column first."""
    kinds = list(variants)
    return [
        Column(measure, variant, measure is measures[0], variant == kinds[0])
        for measure in measures
        for variant in kinds
    ]
