"""A publisher on this machine whose transfers go wrong as they do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Publisher:
    """What a server gives out, and how.

    Attributes:
        files: path without its slash → content.
        ranges: whether the rest of a file can be asked for.
        faults: for each request to come "cut" or "stall" after half of what is left, or a status.
        always: fault of every request beyond those.
        tags: whether answers name the version.
        asked: (path, first byte) of each request.
    """

    files: dict[str, bytes]
    ranges: bool = True
    faults: list[str | int] = field(default_factory=list)
    always: str | int | None = None
    tags: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)
    address: str = ""


@contextmanager
def publisher(files: dict[str, bytes]) -> Iterator[Publisher]:
    state, over = Publisher(files), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            pass

        def do_GET(self) -> None:
            name = self.path.strip("/")
            asked = self.headers.get("Range", "bytes=0-")
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            state.asked.append((name, start))
            fault = state.faults.pop(0) if state.faults else state.always
            if name not in state.files or isinstance(fault, int):
                self.send_error(fault if isinstance(fault, int) else 404)
                return
            content = state.files[name]
            tag = f'"{hash(content)}"'
            same = self.headers.get("If-Range", tag) == tag
            if start >= len(content) and state.ranges and same:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            resumed = start > 0 and state.ranges and same
            body = content[start:] if resumed else content
            self.send_response(206 if resumed else 200)
            if resumed:
                self.send_header("Content-Range", f"bytes {start}-{len(content)}/{len(content)}")
            if state.tags:
                self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                over.wait(5)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
