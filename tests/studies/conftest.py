"""Figures are drawn where a test looks at them; drawing takes most of the time of the others."""

import pytest

from atomjax.reporting.drawing import Plot


@pytest.fixture
def figures() -> None:
    """Asked for by a test, whose figures are then drawn."""


@pytest.fixture(autouse=True)
def spare_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves figures out, unless the test asks for them."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(Plot, "write", lambda self, path: None)
        monkeypatch.setattr(Plot, "svgs", lambda self: [])
