"""Transfer of a file over HTTP that goes on where an earlier attempt stopped."""

import contextlib
import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CHUNK = 1 << 18
# Answers that another attempt may change.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_AGENT = "atomjax"


class DownloadError(OSError):
    """A file that cannot be had; the message says what to do."""


class Unreachable(DownloadError):
    """A publisher that cannot be reached, or does not give the file out."""


@dataclass(kw_only=True)
class Resuming:
    """A downloader for pooch that keeps what came, and asks for the rest."""

    part: Path  # file that grows until it is complete
    # Called with the bytes that came and all bytes, where the server says how many.
    told: Callable[[int, int | None], None]
    timeout: float = 60.0  # seconds without a byte after which a connection counts as stalled
    attempts: int = 5  # attempts without a new byte before it gives up
    pause: float = 1.0  # seconds before the second attempt; they double from one to the next
    _total: int | None = field(default=None, init=False)

    def __call__(self, url: str, output_file: Any, pooch: Any = None) -> None:
        """Fetch a file.

        Raises:
            DownloadError: the disk is full, or the transfer breaks off again and again.
            Unreachable: there is no connection, or the server refuses.
        """
        left, held = self.attempts, self._held
        while True:
            try:
                self._transfer(url)
                break
            except (OSError, http.client.HTTPException) as error:
                self._explain(url, error)
                # Progress earns patience: only attempts without any are counted.
                left = self.attempts if self._held > held else left
                held, left = self._held, left - 1
                if left <= 0:
                    raise self._given_up(url, error) from error
                time.sleep(self.pause * 2 ** (self.attempts - left - 1))
        self.part.replace(output_file)
        self._mark.unlink(missing_ok=True)

    @property
    def _held(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def _mark(self) -> Path:
        """File with the server's name for the version that the part is of."""
        return self.part.with_name(f"{self.part.name}.version")

    def _transfer(self, url: str) -> None:
        """One attempt; an incomplete answer is an error."""
        held = self._held
        request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
        if held:
            request.add_header("Range", f"bytes={held}-")
            if self._mark.exists():
                # Of another version the server sends all.
                request.add_header("If-Range", self._mark.read_text())
        try:
            answer = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and _length_of(error.headers.get("Content-Range")) == held:
                return
            if error.code == 416:
                # The part is longer than the file: it is of something else.
                self.part.unlink()
            raise
        with answer:
            resumed = answer.status == 206 and _start_of(answer.headers) == held
            if held and not resumed:
                held = 0
            length = answer.headers.get("Content-Length")
            self._total = None if length is None else held + int(length)
            self._prepare(answer.headers, held)
            with self.part.open("ab" if held else "wb") as file:
                self._copy(answer, file, held)
        if self._total is not None and self._held < self._total:
            raise http.client.IncompleteRead(b"", self._total - self._held)

    def _prepare(self, headers: Any, held: int) -> None:
        """Note the version that comes, and look for room.

        Raises:
            OSError: the disk has too little room.
        """
        version = headers.get("ETag")
        # Weak names, W/"...", do not promise the same bytes.
        if version is not None and not version.startswith("W/"):
            self._mark.write_text(version)
        else:
            self._mark.unlink(missing_ok=True)
        free = shutil.disk_usage(self.part.parent).free
        if self._total is not None and self._total - held > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.part))

    def _copy(self, answer: Any, file: Any, held: int) -> None:
        self.told(held, self._total)
        while chunk := answer.read1(_CHUNK):
            file.write(chunk)
            held += len(chunk)
            self.told(held, self._total)

    def _explain(self, url: str, error: Exception) -> None:
        """Raise what another attempt would not change."""
        if isinstance(error, urllib.error.HTTPError):
            if error.code == 416 or error.code in _PASSING:
                return
            raise Unreachable(f"{url} answers {error.code} {error.reason}") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            total = "" if self._total is None else f" of {describe_bytes(self._total)}"
            raise DownloadError(
                f"no space left in {self.part.parent} after {describe_bytes(self._held)}{total}; "
                "free some, or name a folder on another disk. The same command then goes on"
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DownloadError(f"{self.part} cannot be written: {error.strerror}") from error

    def _given_up(self, url: str, error: Exception) -> DownloadError:
        reason = getattr(error, "reason", None) or error
        if not self._held:
            return Unreachable(f"{url} cannot be reached ({reason})")
        total = "an unknown number" if self._total is None else f"{self._total:,}"
        return DownloadError(
            f"{url} broke off {self.attempts} times in a row, at {self._held:,} of {total} bytes "
            f"({reason}); the same command goes on from there"
        )


@contextlib.contextmanager
def megabytes(
    track: Any, description: str, size: int | None, part: Path
) -> Iterator[Callable[..., None]]:
    """A function for :class:`Resuming` that shows progress in megabytes."""
    shown = part.stat().st_size // 1_000_000 if part.exists() else 0
    with track(max(1, (size or 0) // 1_000_000), f"{description} (MB)", shown) as tracker:

        def told(held: int, total: int | None) -> None:
            nonlocal shown
            new = held // 1_000_000
            # Less where the server sends all again.
            if new != shown:
                tracker.advance(new - shown)
                shown = new

        yield told


def describe_bytes(count: int) -> str:
    """A number of bytes in words, "1.07 GB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


def _start_of(headers: Any) -> int | None:
    """First byte of the range that an answer holds, from "bytes 10-99/100"."""
    text = (headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else None


def _length_of(text: str | None) -> int | None:
    """Length of the whole file, from "bytes */100"."""
    length = (text or "").rpartition("/")[2]
    return int(length) if length.isdigit() else None
