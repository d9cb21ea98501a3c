"""The published checkpoints that the conversion was written for."""

from dataclasses import dataclass

_OCP = "https://dl.fbaipublicfiles.com/opencatalystproject/models"
_JMP = "https://jmp-iclr-datasets.s3.amazonaws.com"
CC_BY_NC = (
    "CC BY-NC 4.0, the licence of JMP: no commercial use, also of what is trained from these "
    "weights"
)
FAIRCHEM = (
    "published with fairchem (code MIT, Open Catalyst data CC BY 4.0); its authors name no other "
    "licence for these weights"
)
UNKNOWN = "unknown file: the licence is whatever its publisher says"


@dataclass(frozen=True)
class Known:
    """A published checkpoint.

    Attributes:
        title: description of the checkpoint.
        address: address of its authors' publication.
        licence: licence in its authors' words, in a sentence.
    """

    title: str
    address: str
    licence: str


KNOWN: dict[str, Known] = {
    "jmp-s.pt": Known("JMP-S, GemNet-OC, four tasks", f"{_JMP}/jmp-s.pt", CC_BY_NC),
    "jmp-l.pt": Known("JMP-L, GemNet-OC, four tasks", f"{_JMP}/jmp-l.pt", CC_BY_NC),
    "gemnet_oc_base_s2ef_2M.pt": Known(
        "GemNet-OC, OC20 2M", f"{_OCP}/2022_07/s2ef/gemnet_oc_base_s2ef_2M.pt", FAIRCHEM
    ),
    "gemnet_oc_base_s2ef_all.pt": Known(
        "GemNet-OC, OC20 All", f"{_OCP}/2022_07/s2ef/gemnet_oc_base_s2ef_all.pt", FAIRCHEM
    ),
    "gemnet_oc_base_s2ef_all_md.pt": Known(
        "GemNet-OC, OC20 All+MD", f"{_OCP}/2023_03/s2ef/gemnet_oc_base_s2ef_all_md.pt", FAIRCHEM
    ),
    "gemnet_oc_large_s2ef_all_md.pt": Known(
        "GemNet-OC-Large, OC20 All+MD",
        f"{_OCP}/2022_07/s2ef/gemnet_oc_large_s2ef_all_md.pt",
        FAIRCHEM,
    ),
    "gnoc_oc22_all_s2ef.pt": Known(
        "GemNet-OC, OC22", f"{_OCP}/2022_09/oc22/s2ef/gnoc_oc22_all_s2ef.pt", FAIRCHEM
    ),
    "gnoc_oc22_oc20_all_s2ef.pt": Known(
        "GemNet-OC, OC20+OC22",
        f"{_OCP}/2022_09/oc22/s2ef/gnoc_oc22_oc20_all_s2ef.pt",
        FAIRCHEM,
    ),
    "gnoc_finetune_all_s2ef.pt": Known(
        "GemNet-OC, OC20 then OC22",
        f"{_OCP}/2022_09/oc22/s2ef/gnoc_finetune_all_s2ef.pt",
        FAIRCHEM,
    ),
    "eq2_31M_ec4_allmd.pt": Known(
        "EquiformerV2 31M, OC20 All+MD", f"{_OCP}/2023_06/oc20/s2ef/eq2_31M_ec4_allmd.pt", FAIRCHEM
    ),
    "eq2_83M_2M.pt": Known(
        "EquiformerV2 83M, OC20 2M", f"{_OCP}/2023_06/oc20/s2ef/eq2_83M_2M.pt", FAIRCHEM
    ),
    "eq2_153M_ec4_allmd.pt": Known(
        "EquiformerV2 153M, OC20 All+MD",
        f"{_OCP}/2023_06/oc20/s2ef/eq2_153M_ec4_allmd.pt",
        FAIRCHEM,
    ),
    "eq2_121M_e4_f100_oc22_s2ef.pt": Known(
        "EquiformerV2 121M, OC22",
        f"{_OCP}/2023_10/oc22/s2ef/eq2_121M_e4_f100_oc22_s2ef.pt",
        FAIRCHEM,
    ),
}


def licence_note(file_name: str) -> str:
    """Licence of a published file in its authors' words, by the file's name."""
    known = KNOWN.get(file_name)
    return UNKNOWN if known is None else known.licence
