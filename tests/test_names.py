"""Names in a config that would become files."""

import pytest

from atomjax.data.settings import DatasetSettings
from atomjax.runtime.config import ConfigError
from atomjax.runtime.names import check_name


@pytest.mark.parametrize("name", ["rmd17_aspirin", "ANI-1x", "MPtrj v1.1", "Å"])
def test_usual_names_pass(name: str) -> None:
    check_name(name, "dataset")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../../x",
            "/abs",
            "a/b",
            "a\\b",
            "",
            ".",
            "..",
            ".hidden",
            "-option",
            " a",
            "a ",
            "a.",
        ),
        *("x" * 300, "é" * 60, "a\nb", "a\0b", r"$\frac{\frac{1}{2}}{3}$", "{}"),
    ],
)
def test_names_that_are_no_file_names_are_refused_where_they_are_declared(name: str) -> None:
    with pytest.raises(ConfigError, match="letter or digit"):
        DatasetSettings(name=name, kind="generate", generator="slabs")
