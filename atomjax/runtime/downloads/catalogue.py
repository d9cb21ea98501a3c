"""Published data sets and checkpoints by name: addresses, licences, sizes and hashes.

All of it is from the publishers' own pages and records, or from what quotes them; a hash or a size
that was not found is left out. Sizes have the digits that the publisher gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_FIGSHARE = "https://figshare.com/ndownloader/files"
_META = "https://dl.fbaipublicfiles.com"
_OPEN_CATALYST = f"{_META}/opencatalystproject"
_FAIRCHEM_DOCS = (
    "https://github.com/FAIR-Chem/fairchem/tree/31c096399b82ff37cb4a36287efdfe1c9d84513c/docs/core"
)
_OMAT24_MODELS = "https://huggingface.co/fairchem/OMAT24/resolve/main"
CC_BY_NC = (
    "CC BY-NC 4.0, the licence of JMP: no commercial use, also of what is trained from these "
    "weights"
)
FAIRCHEM = (
    "published with fairchem (code MIT, Open Catalyst and Open DAC data CC BY 4.0); its authors "
    "name no other licence for these weights"
)
GATED = "gated: its publisher asks you to log in at the page and to accept a licence there"
UNSTATED = "not stated where we looked; the page decides"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One file at its publisher's."""

    address: str  # address of the file
    name: str  # name of the file in the cache
    # Bytes, to the digits that the publisher gives; None where none are known.
    size: int | None = None
    # "md5:..." or "sha256:..." as the publisher states it; None where none is known.
    hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Facts that hold for all downloads of one publication."""

    name: str  # name, which is also the folder in the cache
    title: str  # description in a few words
    licence: str  # licence in its publisher's words, in a sentence
    page: str  # page of the publisher
    format: str | None = None  # format of its reader; None for files that are no structures


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One download."""

    name: str  # name without the prefix, such as "rmd17/aspirin"
    collection: Collection  # publication that it belongs to
    remote: Remote  # file to fetch
    beside: tuple[Remote, ...] = ()  # further small files that its reader looks for beside the file
    # Pattern of the file or folder in the unpacked archive ("." for all of it); None for files that
    # are not unpacked. Of several files the folder that holds them is meant.
    inside: str | None = None


RMD17 = Collection(
    name="rmd17",
    title="rMD17, ten molecules, PBE",
    licence="CC0",
    page="https://figshare.com/articles/dataset/Revised_MD17_dataset_rMD17_/12672038",
    format="rmd17",
)
QM9 = Collection(
    name="qm9",
    title="QM9, 133,885 molecules, B3LYP",
    licence="CC0",
    page="https://doi.org/10.6084/m9.figshare.c.978904.v5",
    format="qm9",
)
MD22 = Collection(
    name="md22",
    title="MD22, seven large molecules, PBE+MBD",
    licence=UNSTATED,
    page="http://www.sgdml.org/#datasets",
    format="md22",
)
SPICE = Collection(
    name="spice",
    title="SPICE 1.1.4, ωB97M-D3(BJ)",
    licence=UNSTATED,
    page="https://zenodo.org/records/8222043",
    format="spice",
)
ANI1X = Collection(
    name="ani1x",
    title="ANI-1x, ωB97X and CCSD(T)",
    licence="CC0",
    page="https://doi.org/10.6084/m9.figshare.10047041.v1",
    format="ani1x",
)
TRANSITION1X = Collection(
    name="transition1x",
    title="Transition1x, reaction paths, ωB97X",
    licence=UNSTATED,
    page="https://doi.org/10.6084/m9.figshare.19614657.v4",
    format="transition1x",
)
MATBENCH = Collection(
    name="matbench",
    title="MatBench 0.1, the tasks with structures",
    licence=UNSTATED,
    page="https://matbench.materialsproject.org",
    format="matbench",
)
QMOF = Collection(
    name="qmof",
    title="QMOF 18, 20,372 frameworks, PBE-D3(BJ)",
    licence="CC BY 4.0",
    page="https://figshare.com/articles/dataset/QMOF_Database/13147324/18",
    format="qmof",
)
OC20 = Collection(
    name="oc20",
    title="OC20, structures to energy and forces",
    licence="CC BY 4.0",
    page=f"{_FAIRCHEM_DOCS}/datasets",
    format="oc20_extxyz",
)
OC20_TABLES = Collection(
    name="oc20_tables",
    title="OC20, systems and their reference energies",
    licence="CC BY 4.0",
    page=f"{_FAIRCHEM_DOCS}/datasets",
)
OC22 = Collection(
    name="oc22",
    title="OC22, structures to total energy and forces",
    licence="CC BY 4.0",
    page=f"{_FAIRCHEM_DOCS}/datasets",
    format="oc22",
)
OMAT24 = Collection(
    name="omat24",
    title="OMat24, inorganic materials, PBE",
    licence="CC BY 4.0",
    page=f"{_FAIRCHEM_DOCS}/datasets",
    format="aselmdb",
)
JMP = Collection(
    name="jmp",
    title="checkpoints of JMP",
    licence=CC_BY_NC,
    page="https://github.com/facebookresearch/JMP",
)
OCP = Collection(
    name="fairchem",
    title="checkpoints of fairchem v1",
    licence=FAIRCHEM,
    page=_FAIRCHEM_DOCS,
)
ODAC = Collection(
    name="fairchem_odac",
    title="checkpoints of Open DAC 2023",
    licence=FAIRCHEM,
    page=_FAIRCHEM_DOCS,
)
OMAT24_CHECKPOINTS = Collection(
    name="fairchem_omat24",
    title="EquiformerV2 of OMat24",
    licence=GATED,
    page="https://huggingface.co/fairchem/OMAT24",
)

_RMD17_FILE = Remote(
    address=f"{_FIGSHARE}/23950376",
    name="rmd17.tar.bz2",
    size=1_066_301_513,
    hash="md5:cb1a927628d96f2e966025da4fb63d18",
)
_RMD17_MOLECULES = (
    "aspirin azobenzene benzene ethanol malonaldehyde naphthalene paracetamol salicylic toluene "
    "uracil"
)
_MD22_MOLECULES = (
    "Ac-Ala3-NHMe DHA stachyose AT-AT AT-AT-CG-CG buckyball-catcher double-walled_nanotube"
)
_MATBENCH_HASHES = {
    "jdft2d": "26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf",
    "phonons": "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3",
    "dielectric": "83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6",
    "log_gvrh": "098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7",
    "log_kvrh": "44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd",
    "perovskites": "4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483",
    "mp_gap": "58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057",
    "mp_e_form": "dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
    "mp_is_metal": "9a028ed5750a4c76ca36e9f3c8d48fe0bf3fb21b76ec2289e58ae7048d527919",
}
# Split → bytes of the archive as the publisher rounds them, and its MD5.
_OC20_FILES = {
    "train_200K": (344_000_000, "f8d0909c2623a393148435dede7d3a46"),
    "train_2M": (3_400_000_000, "953474cb93f0b08cdc523399f03f7c36"),
    "train_20M": (34_000_000_000, "863bc983245ffc0285305a1850e19cf7"),
    "train_all": (225_000_000_000, "12a7087bfd189a06ccbec9bc7add2bcd"),
    "val_id": (1_700_000_000, "f57f7f5c1302637940f2cc858e789410"),
    "val_ood_ads": (1_700_000_000, "431ab0d7557a4639605ba8b67793f053"),
    "val_ood_cat": (1_700_000_000, "532d6cd1fe541a0ddb0aa0f99962b7db"),
    "val_ood_both": (1_900_000_000, "5731862978d80502bbf7017d68c2c729"),
    "rattled": (29_000_000_000, "40431149b27b64ce1fb40cac4e2e064b"),
    "md": (42_000_000_000, "9fed845aaab8fb4bf85e3a8db57796e0"),
}
_OC20_TABLES = {
    "mapping": ("oc20_data_mapping.pkl", "data", "6b5d485019861f6e7efca38338375b61"),
    "reference": ("oc20_ref.pkl", "data/oc22", "043e1e0b0cce64c62f01a8563dbc3178"),
}
_OC22_FILE = Remote(
    address=f"{_OPEN_CATALYST}/data/oc22/s2ef_total_train_val_test_lmdbs.tar.gz",
    name="s2ef_total_train_val_test_lmdbs.tar.gz",
    size=20_000_000_000,
    hash="md5:ebea523c6f8d61248a37b4dd660b11e6",
)
# Part of OMat24 → bytes of its training and validation archives as the publisher rounds them.
_OMAT24_PARTS = {
    "rattled-1000": (21_000_000_000, 218_000_000),
    "rattled-1000-subsampled": (7_100_000_000, 77_000_000),
    "rattled-500": (13_000_000_000, 135_000_000),
    "rattled-500-subsampled": (7_300_000_000, 79_000_000),
    "rattled-300": (12_000_000_000, 122_000_000),
    "rattled-300-subsampled": (6_400_000_000, 69_000_000),
    "aimd-from-PBE-1000-npt": (26_000_000_000, 261_000_000),
    "aimd-from-PBE-1000-nvt": (24_000_000_000, 251_000_000),
    "aimd-from-PBE-3000-npt": (25_000_000_000, 282_000_000),
    "aimd-from-PBE-3000-nvt": (32_000_000_000, 364_000_000),
    "rattled-relax": (12_000_000_000, 118_000_000),
}
_OMAT24_DATES = {"train": "241018", "val": "241220"}
# Name of a checkpoint → its address below those of fairchem's models.
_OCP_FILES = {
    "equiformer_v2/31m-oc20": "2023_06/oc20/s2ef/eq2_31M_ec4_allmd.pt",
    "equiformer_v2/83m-oc20-2m": "2023_06/oc20/s2ef/eq2_83M_2M.pt",
    "equiformer_v2/153m-oc20": "2023_06/oc20/s2ef/eq2_153M_ec4_allmd.pt",
    "equiformer_v2/121m-oc22": "2023_10/oc22/s2ef/eq2_121M_e4_f100_oc22_s2ef.pt",
    "gemnet_oc/oc20-2m": "2022_07/s2ef/gemnet_oc_base_s2ef_2M.pt",
    "gemnet_oc/oc20": "2022_07/s2ef/gemnet_oc_base_s2ef_all.pt",
    "gemnet_oc/oc20-md": "2023_03/s2ef/gemnet_oc_base_s2ef_all_md.pt",
    "gemnet_oc/large-oc20-md": "2022_07/s2ef/gemnet_oc_large_s2ef_all_md.pt",
    "gemnet_oc/oc22": "2022_09/oc22/s2ef/gnoc_oc22_all_s2ef.pt",
    "gemnet_oc/oc20-oc22": "2022_09/oc22/s2ef/gnoc_oc22_oc20_all_s2ef.pt",
    "gemnet_oc/oc20-then-oc22": "2022_09/oc22/s2ef/gnoc_finetune_all_s2ef.pt",
}
_ODAC_FILES = {
    "equiformer_v2/31m-odac": "checkpoints_20231116/eqv2_31M.pt",
    "equiformer_v2/153m-odac": "checkpoints_20231018/Equiformer_V2_Large.pt",
    "gemnet_oc/odac": "checkpoints_20231018/Gemnet-OC.pt",
}
_OMAT24_FILES = (
    *("31M_omat", "86M_omat", "153M_omat", "31M_mp", "31M_omat_mp_salex", "86M_omat_mp_salex"),
    *("dens_31M_mp", "dens_86M_mp", "dens_153M_mp"),
)


def _molecules() -> Iterator[Entry]:
    for molecule in _RMD17_MOLECULES.split():
        inside = f"rmd17/npz_data/rmd17_{molecule}.npz"
        name = f"rmd17/{molecule}"
        yield Entry(name=name, collection=RMD17, remote=_RMD17_FILE, inside=inside)
    archive = Remote(
        address=f"{_FIGSHARE}/3195389",
        name="dsgdb9nsd.xyz.tar.bz2",
        size=86_144_227,
        hash="md5:ad1ebd51ee7f5b3a6e32e974e5d54012",
    )
    left_out = Remote(
        address=f"{_FIGSHARE}/3195404",
        name="uncharacterized.txt",
        size=486_752,
        hash="md5:a361887bacb427b8a0ce7903d92a53b4",
    )
    yield Entry(name="qm9", collection=QM9, remote=archive, beside=(left_out,), inside=".")
    for molecule in _MD22_MOLECULES.split():
        file = f"md22_{molecule}.npz"
        address = f"http://www.quantum-machine.org/gdml/repo/datasets/{file}"
        remote = Remote(address=address, name=file)
        yield Entry(name=f"md22/{molecule}", collection=MD22, remote=remote)
    yield Entry(
        name="spice",
        collection=SPICE,
        remote=Remote(
            address="https://zenodo.org/records/8222043/files/SPICE-1.1.4.hdf5",
            name="SPICE-1.1.4.hdf5",
            hash="md5:f27d4c81da0e37d6547276bf6b4ae6a1",
        ),
    )
    yield Entry(
        name="ani1x",
        collection=ANI1X,
        remote=Remote(
            address=f"{_FIGSHARE}/18112775",
            name="ani1x-release.h5",
            size=5_590_846_027,
            hash="md5:98090dd6679106da861f52bed825ffb7",
        ),
    )
    remote = Remote(address=f"{_FIGSHARE}/36035789", name="Transition1x.h5", size=6_623_929_000)
    yield Entry(name="transition1x", collection=TRANSITION1X, remote=remote)


def _crystals() -> Iterator[Entry]:
    for task, digest in _MATBENCH_HASHES.items():
        file = f"matbench_{task}.json.gz"
        address = f"https://ml.materialsproject.org/projects/{file}"
        remote = Remote(address=address, name=file, hash=f"sha256:{digest}")
        yield Entry(name=f"matbench/{task}", collection=MATBENCH, remote=remote)
    archive = Remote(
        address=f"{_FIGSHARE}/59573735",
        name="qmof_database.zip",
        size=392_088_304,
        hash="md5:0d89aaf66f2c306e86e47fd91cb1346e",
    )
    yield Entry(name="qmof", collection=QMOF, remote=archive, inside="qmof_database")
    for part, sizes in _OMAT24_PARTS.items():
        for (split, date), size in zip(_OMAT24_DATES.items(), sizes, strict=True):
            address = f"{_OPEN_CATALYST}/data/omat/{date}/omat/{split}/{part}.tar.gz"
            remote = Remote(address=address, name=f"{split}-{part}.tar.gz", size=size)
            name = f"omat24/{split}/{part}"
            yield Entry(name=name, collection=OMAT24, remote=remote, inside="**/*.aselmdb")


def _surfaces() -> Iterator[Entry]:
    for split, (size, digest) in _OC20_FILES.items():
        stem = f"s2ef_{split}"
        address = f"{_OPEN_CATALYST}/data/{stem}.tar"
        remote = Remote(address=address, name=f"{stem}.tar", size=size, hash=f"md5:{digest}")
        name = f"oc20/{split}"
        yield Entry(name=name, collection=OC20, remote=remote, inside=f"{stem}/{stem}")
    for name, (file, folder, digest) in _OC20_TABLES.items():
        address = f"{_OPEN_CATALYST}/{folder}/{file}"
        remote = Remote(address=address, name=file, hash=f"md5:{digest}")
        yield Entry(name=f"oc20/{name}", collection=OC20_TABLES, remote=remote)
    for split in ("train", "val_id", "val_ood"):
        name = f"oc22/{split}"
        yield Entry(name=name, collection=OC22, remote=_OC22_FILE, inside=f"**/{split}")


def _checkpoints() -> Iterator[Entry]:
    for size in ("s", "l"):
        file = f"jmp-{size}.pt"
        remote = Remote(address=f"https://jmp-iclr-datasets.s3.amazonaws.com/{file}", name=file)
        yield Entry(name=f"jmp-{size}", collection=JMP, remote=remote)
    for name, path in _OCP_FILES.items():
        address = f"{_OPEN_CATALYST}/models/{path}"
        remote = Remote(address=address, name=path.rpartition("/")[2])
        yield Entry(name=name, collection=OCP, remote=remote)
    for name, path in _ODAC_FILES.items():
        remote = Remote(address=f"{_META}/dac/{path}", name=path.rpartition("/")[2])
        yield Entry(name=name, collection=ODAC, remote=remote)
    for short in _OMAT24_FILES:
        file = f"eqV2_{short}.pt"
        name = f"equiformer_v2/{short.lower().replace('_', '-')}"
        remote = Remote(address=f"{_OMAT24_MODELS}/{file}", name=file)
        yield Entry(name=name, collection=OMAT24_CHECKPOINTS, remote=remote)


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for part in (_molecules, _crystals, _surfaces, _checkpoints)
    for entry in part()
}


def licence_note(file_name: str) -> str:
    """Licence of a published file in its authors' words, by the file's name."""
    found = (e.collection.licence for e in CATALOGUE.values() if e.remote.name == file_name)
    return next(found, "unknown file: the licence is whatever its publisher says")
