"""A browser without a screen, asked by its devtools protocol over a pipe: no port is open."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CODES = {"Tab": 9, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
"""Of keys, by which a browser does what it does by itself."""
LIMIT = 60
"""Seconds for one answer."""


class Tab:
    """One page. ``events``: what the browser told since, by method and parameters."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._number, self._held, self._session = 0, b"", ""
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result. Raises AssertionError for an error, TimeoutError."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._write, json.dumps(said).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard["error"])
                return dict(heard["result"])
            self.events.append((heard.get("method", ""), heard.get("params", {})))

    def _hear(self) -> dict[str, Any]:
        until = time.monotonic() + LIMIT
        while b"\0" not in self._held:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser says nothing")
            self._held += os.read(self._read, 1 << 16) or _ended()
        text, _, self._held = self._held.partition(b"\0")
        return dict(json.loads(text))

    def open(self, path: Path, *, scheme: str, width: int) -> None:
        """Shows a file in a window of so many pixels, and waits until all of it ran."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        until = time.monotonic() + LIMIT
        while not self.value(f"document.readyState == 'complete' && location.href == '{path.as_uri()}'"):
            assert time.monotonic() < until, self.events

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, name: str, *, shift: bool = False) -> None:
        """Pressed and let go, as by a hand."""
        text: dict[str, Any] = {"text": name} if len(name) == 1 else {"windowsVirtualKeyCode": CODES[name]}
        modifiers = 8 if shift else 0
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=name, modifiers=modifiers, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=name, modifiers=modifiers)

    def mouse(self, x: float, y: float) -> None:
        """Moved there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def shot(self, path: Path) -> None:
        """The whole page as a picture."""
        made = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(made["data"]))

    def complaints(self) -> list[Any]:
        """Errors and warnings of the console, exceptions, and requests for anything but the page itself."""
        wrong: list[Any] = []
        self.value("0")  # what it told before is read then
        for method, said in self.events:
            match method:
                case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded":
                    wrong.append(said)
                case "Network.requestWillBeSent" if said["request"]["url"] != said["documentURL"]:
                    wrong.append(said["request"]["url"])
        return wrong


def _ended() -> bytes:
    raise AssertionError("the browser ended")


@contextmanager
def tab(browser: str, profile: Path) -> Iterator[Tab]:
    """One page of a browser of its own, which ends with it."""
    asked, told = os.pipe(), os.pipe()

    def placed() -> None:  # where the browser looks for them
        os.dup2(asked[0], 3)
        os.dup2(told[1], 4)

    high = [os.dup(fd) for fd in (*asked, *told)]  # so that 3 and 4 are none of them
    for fd in (*asked, *told):
        os.close(fd)
    asked, told = (high[0], high[1]), (high[2], high[3])
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
    done = subprocess.Popen(
        [browser, *options, f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=placed,
    )
    os.close(asked[0])
    os.close(told[1])
    try:
        yield Tab(told[0], asked[1])
    finally:
        done.kill()
        done.wait()
        os.close(told[0])
        os.close(asked[1])
