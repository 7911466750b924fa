"""A headless Chromium without a network, driven over its debugging pipe: what benchmarks and tests look at pages with.

Chromium's own protocol needs no package and no port: messages of JSON with a zero byte between them, on two pipes that the
browser finds as its file descriptors 3 and 4. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "TRAINWRIGHT_CHROMIUM"  # a program that is to be taken in place of those names
PATIENCE_SECONDS = 240.0
LOOK_SECONDS = 0.02  # between two looks at what is waited for
ABOVE = 20  # descriptors that none of 0 to 4 is
KEYS = {"Tab": 9, "Enter": 13, " ": 32}
PHONE = (390, 844)  # pixels of a phone's window
READY = "document.documentElement?.dataset.ready === 'yes'"


def chromium() -> str | None:
    """The browser of this machine; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get(VARIABLE, ""), *NAMES))), None)


class BrowserError(Exception):
    """The browser ended, did not answer in time, or refused what was asked."""


class Browser:
    """One Chromium. program: `chromium()`. profile: an empty folder for what it remembers."""

    def __init__(self, program: str, profile: Path) -> None:
        profile.mkdir(parents=True, exist_ok=True)
        (hers_in, ours_out), (ours_in, hers_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, ABOVE) for end in (hers_in, hers_out)]
        log = os.open(profile / "chromium.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        arguments = [
            program,
            "--headless=new",
            "--no-sandbox",  # which does not work for root in a container; only our own pages are opened
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-background-timer-throttling",  # of tabs that are open beside the one in front
            "--disable-renderer-backgrounding",
            "--disable-backgrounding-occluded-windows",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        moved = [(os.POSIX_SPAWN_DUP2, one, place) for one, place in ((high[0], 3), (high[1], 4), (log, 1), (log, 2))]
        self._process = os.posix_spawn(program, arguments, os.environ, file_actions=moved, setsid=True)
        for end in (hers_in, hers_out, *high, log):
            os.close(end)
        self._in, self._out = ours_in, ours_out
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol; what the browser tells meanwhile is kept in `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            told = self.read(until)
            if told.get("id") != self._number:
                self.events.append(told)
            elif "error" in told:
                raise BrowserError(f"{method}: {told['error']['message']}")
            else:
                result: dict[str, Any] = told["result"]
                return result

    def read(self, until: float) -> dict[str, Any]:
        """The next message. until: seconds of the monotonic clock."""
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise BrowserError(f"no answer in {PATIENCE_SECONDS:.0f} s")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise BrowserError("the browser has ended")
            self._rest += piece
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def close(self) -> None:
        """End it, and wait until it has ended."""
        for end in (self._in, self._out):
            os.close(end)
        os.killpg(self._process, signal.SIGKILL)  # its own session: the browser and what it started
        os.waitpid(self._process, 0)


class Tab:
    """A tab that knows nothing of others: of `size` pixels, a phone's where `phone`, the system's theme light or `dark`."""

    def __init__(
        self, browser: Browser, *, size: tuple[int, int] = (1200, 900), dark: bool = False, phone: bool = False
    ) -> None:
        self._browser = browser
        self._context = browser.ask("Target.createBrowserContext")["browserContextId"]
        target = browser.ask("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        width, height = PHONE if phone else size
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def open(self, file: Path, *, ready: str = READY) -> None:
        """Show a file, and wait until what `ready` says is true of it."""
        self.ask("Page.navigate", url=file.absolute().as_uri())
        self.wait(ready)

    def wait(self, said: str) -> None:
        """Until an expression is true in the page. It is asked again and again: a promise is lost with the page before."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.value(f"Boolean({said})"):
            if time.monotonic() > until:
                raise BrowserError(f"never true in {PATIENCE_SECONDS:.0f} s: {said}")
            time.sleep(LOOK_SECONDS)

    def value(self, expression: str) -> Any:
        """What an expression is in the page, as JSON's types; a promise's value once it has one."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(str(details.get("exception", {}).get("description") or details["text"]))
        return found["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """A key of the keyboard, as a person presses it."""
        typed = {"Enter": "\r", " ": " "}.get(key)
        for _ in range(times):
            about: dict[str, Any] = {"key": key, "code": "Space" if key == " " else key}
            about["windowsVirtualKeyCode"] = KEYS[key]
            self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": typed} if typed else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, file: Path, *, whole: bool = True) -> Path:
        """A PNG of the page, or of the part of it that the window shows."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def console(self) -> list[str]:
        """What the page said so far that a developer would see: errors, warnings, and what the browser refused."""
        said = []
        for event in self._events():
            told = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                said.append(str(told["exceptionDetails"].get("exception", {}).get("description") or told))
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append(" ".join(str(one.get("description") or one.get("value")) for one in told["args"]))
            elif event["method"] == "Log.entryAdded":
                said.append(str(told["entry"]["text"]))
        return said

    def requests(self) -> list[str]:
        """Every address that the page asked for, itself the first; without what it has inside."""
        asked = [event for event in self._events() if event["method"] == "Network.requestWillBeSent"]
        addresses = [str(event["params"]["request"]["url"]) for event in asked]
        return [address for address in addresses if not address.startswith(("data:", "blob:"))]

    def close(self) -> None:
        self._browser.ask("Target.disposeBrowserContext", browserContextId=self._context)

    def _events(self) -> Sequence[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser until the end of the block. Raises BrowserError where there is none on this machine."""
    program = chromium()
    if program is None:
        raise BrowserError("there is no Chromium on this machine")
    opened = Browser(program, profile)
    try:
        yield opened
    finally:
        opened.close()
