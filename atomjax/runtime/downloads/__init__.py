"""Published data sets and checkpoints by name, fetched once and checked."""

from atomjax.runtime.downloads.cache import (
    PREFIX,
    cache_folder,
    fetch,
    find_download,
    is_download,
    local_path,
    place_of,
)
from atomjax.runtime.downloads.catalogue import CATALOGUE, Collection, Entry, Remote, licence_note
from atomjax.runtime.downloads.transfer import DownloadError, describe_bytes

__all__ = [
    "CATALOGUE",
    "PREFIX",
    "Collection",
    "DownloadError",
    "Entry",
    "Remote",
    "cache_folder",
    "describe_bytes",
    "fetch",
    "find_download",
    "is_download",
    "licence_note",
    "local_path",
    "place_of",
]
