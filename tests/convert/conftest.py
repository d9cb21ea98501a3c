"""What all tests of the conversion share."""

import pytest

from atomjax.convert import conversion

TEMPLATES: dict = {}
make_template = conversion.variables_template


@pytest.fixture(autouse=True)
def remembered_templates(monkeypatch):
    """Traces each model once: the shapes follow from model, heads and graph alone."""

    def remembered(model, heads, graph):
        key = (repr(model), tuple(heads), graph)
        if key not in TEMPLATES:
            TEMPLATES[key] = make_template(model, heads, graph)
        return TEMPLATES[key]

    monkeypatch.setattr(conversion, "variables_template", remembered)
