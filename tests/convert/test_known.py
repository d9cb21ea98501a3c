"""The published checkpoints are documented as the code knows them."""

from pathlib import Path

from atomjax.convert.known import CC_BY_NC, KNOWN, licence_note
from atomjax.models import BACKBONES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"


def test_table_lists_every_known_file_with_its_address():
    text = DOCUMENT.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and "<https" in line]
    assert len(rows) == len(KNOWN)
    sizes = [size for backbone in BACKBONES.values() for size in backbone.sizes]
    for name, known in KNOWN.items():
        (row,) = (row for row in rows if row.startswith(f"| `{name}` <{known.address}> |"))
        assert known.address.endswith(f"/{name}")
        model = row.rsplit("|", 2)[1].split("`")
        assert len(model) == 1 or model[1].split(",")[0] in {*sizes, "num_elements=83"}


def test_licence_goes_by_the_name_of_the_file():
    assert licence_note("jmp-l.pt") == CC_BY_NC
    assert "code MIT" in licence_note("eq2_31M_ec4_allmd.pt")
    assert "whatever its publisher says" in licence_note("weights.pt")
