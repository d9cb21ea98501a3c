"""Many trainings under one question, and one table of their results.

A :class:`Study` of one's own is a function that names its points, in a file that registers it;
CONTRIBUTING.md shows one.
"""

from atomjax.studies.engine import Report, Study, register
from atomjax.studies.results import Findings, Point, ReportError, Results, Row

__all__ = ["Findings", "Point", "Report", "ReportError", "Results", "Row", "Study", "register"]
