"""A headless Chromium driven through the DevTools protocol, by the pipe that it offers: no port, no
further package.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "m": 77}  # key -> its code


class Tab:
    """A page of a browser. complaints: what its console and its network said went wrong; asked: the
    addresses that it asked for.
    """

    def __init__(self, to_browser: Any, from_browser: Any) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._session = 0, None
        self.complaints: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer of the browser to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        return json.loads(content)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"] + params["entry"].get("url", ""))

    def run(self, script: str) -> Any:
        """The value of a script, awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 300) -> Any:
        """The value of a script as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.05)
        return value

    def open(self, address: str, size: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        """Load a page, another fragment of it too, in a window of that size (width, height)."""
        window = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **window)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.complaints.clear()
        for url in ("about:blank", address):  # so that another fragment is loaded anew
            self.call("Page.navigate", url=url)
            there = f"document.URL === {json.dumps(url)}"
            self.wait(f"{there} && document.readyState === 'complete'")

    def press(self, key: str) -> None:
        """A key of KEYS, down and up."""
        for kind in ("rawKeyDown", "keyUp"):
            name = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
            self.call("Input.dispatchKeyEvent", type=kind, **name)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input for files, as who drops it there."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@contextlib.contextmanager
def open_tab(profile: Path, size: tuple[int, int] = (1280, 900), *flags: str) -> Iterator[Tab]:
    """A tab of a new browser, whose profile is in a new folder; size: width, height in pixels."""
    down_read, down_write = os.pipe()  # to the browser, which reads it as 3
    up_read, up_write = os.pipe()  # from it, which it writes as 4

    def place() -> None:
        high = [os.dup(down_read), os.dup(up_write)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    window = f"--window-size={size[0]},{size[1]}"
    process = subprocess.Popen(
        [BROWSER, *FLAGS, window, *flags, f"--user-data-dir={profile}"],
        preexec_fn=place,
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(down_read)
    os.close(up_write)
    with os.fdopen(down_write, "wb") as to_browser, os.fdopen(up_read, "rb") as from_browser:
        try:
            yield Tab(to_browser, from_browser)
        finally:
            process.kill()
            process.wait()
