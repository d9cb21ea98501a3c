"""Chromium without a window, driven through ChromeDriver's own protocol (W3C WebDriver)."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromedriver")
# The last ones keep it from asking for addresses outside, which a closed network refuses.
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60.0


def missing() -> str:
    """The programs that are not installed."""
    return ", ".join(program for program in PROGRAMS if shutil.which(program) is None)


class Browser:
    """One window."""

    def __init__(self, address: str):
        self._address = address

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self._address}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path, width: int = 1200, scheme: str = "light") -> None:
        """Opens a file in a window of such a width, with the reader's choice of light or dark."""
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.develop("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.develop("Emulation.setEmulatedMedia", {"features": [feature]})
        self.call("POST", "/url", {"url": page.as_uri()})

    def develop(self, command: str, parameters: Mapping[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a script returns."""
        return self.call("POST", "/execute/sync", {"script": script, "args": arguments})

    def click(self, x: float, y: float) -> None:
        """Moves the pointer to a place in the window and presses it."""
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            event = {"type": kind, "x": x, "y": y, "buttons": buttons, "clickCount": 1}
            self.develop("Input.dispatchMouseEvent", {**event, "button": "left"})

    def console(self) -> list[str]:
        """Messages since the last call."""
        return [one["message"] for one in self.call("POST", "/se/log", {"type": "browser"})]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        root = Browser(f"http://127.0.0.1:{port}")
        _wait(root)
        options = {
            "binary": shutil.which("chromium"),
            "args": [*SWITCHES, f"--user-data-dir={folder}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        asked = {"capabilities": {"alwaysMatch": wanted}}
        session = root.call("POST", "/session", asked)["sessionId"]
        window = Browser(f"http://127.0.0.1:{port}/session/{session}")
        try:
            yield window
        finally:
            window.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()


def _wait(root: Browser) -> None:
    """Waits until the driver answers."""
    began = time.monotonic()
    while True:
        try:
            root.call("GET", "/status")
            return
        except OSError:
            if time.monotonic() - began > PATIENCE:
                raise
            time.sleep(0.1)
