"""The items of a large array in a JSON file, parsed one at a time."""

import json
import re
from functools import partial
from json.decoder import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np

from atomjax.structures.readers.checks.bounded import read_text
from atomjax.structures.readers.layouts.records import ReadError
from atomjax.structures.readers.layouts.structure_file import PerProcess

SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


class JsonRecords:
    """The items of the array that a file consists of, or that stands under a key of its object.

    The text is kept in memory, decompressed, with the places of the items; the items are not.

    Attributes:
        path: the file, which may be compressed (``.gz``).
        others: takes the object's entries under its other keys.
    """

    def __init__(self, path: Path, key: str | None = None) -> None:
        self.path = path
        self.others: dict[str, Any] = {}
        self._text = PerProcess(partial(read_text, path))
        try:
            self._spans = self._find(self._text.get(), key)
        except (JSONDecodeError, RecursionError) as error:
            raise ReadError(
                f"{path}: not JSON, or cut short ({error}); copy it again if it is truncated"
            ) from error

    def _find(self, text: str, key: str | None) -> np.ndarray:
        start = _skip(text, 0)
        if key is None:
            return _array_spans(text, start, self.path)[0]
        if text[start : start + 1] != "{":
            raise ReadError(f"{self.path}: is no JSON object with an array {key!r}")
        spans, place = None, _skip(text, start + 1)
        while text[place : place + 1] not in ("}", ""):
            name, place = DECODER.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
            if name == key:
                spans, place = _array_spans(text, place, self.path)
            else:
                self.others[name], place = DECODER.raw_decode(text, place)
            place = _skip(text, place)
            if text[place : place + 1] == ",":
                place = _skip(text, place + 1)
        if text[place : place + 1] != "}":
            raise JSONDecodeError("the object does not end", "", place)
        if spans is None:
            raise ReadError(f"{self.path}: has no array {key!r}; it has: {', '.join(self.others)}")
        return spans

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> Any:
        start, end = self._spans[index]
        return json.loads(self._text.get()[start:end])


def _array_spans(text: str, start: int, path: Path) -> tuple[np.ndarray, int]:
    """[n, 2], where each item of an array begins and ends, and where the array ends."""
    if text[start : start + 1] != "[":
        raise ReadError(f"{path}: expected a JSON array, found {text[start : start + 20]!r}")
    spans, place = [], _skip(text, start + 1)
    while text[place : place + 1] != "]":
        _, end = DECODER.raw_decode(text, place)
        spans.append((place, end))
        place = _skip(text, end)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            raise JSONDecodeError("the array does not end", "", place)
    return np.array(spans, dtype=np.int64).reshape(-1, 2), place + 1


def _skip(text: str, place: int) -> int:
    match = SPACE.match(text, place)
    return match.end() if match else place
