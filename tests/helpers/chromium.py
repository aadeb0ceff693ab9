"""A real headless Chromium for tests, driven over the WebDriver protocol with the standard library
only.

    with Browser() as browser:
        browser.open(path)
        browser.click("#again button")
        assert browser.text("#again [role=status]") == "copied"
        assert browser.errors() == []

Needs `chromium` and `chromedriver` (Debian's packages); `why_missing()` says what is not there, for
`pytest.mark.skipif`.
"""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
)  # fmt: skip


def why_missing() -> str | None:
    """Why no browser test can run here, or None if it can."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class BrowserError(RuntimeError):
    """What the driver answered instead of doing as told."""


class Browser:
    """One Chromium with one tab. A context manager: leaving it ends both processes."""

    def __init__(self, *, width: int = 1200, height: int = 900, dark: bool = False):
        self.width, self.height, self.dark = width, height, dark

    def __enter__(self) -> "Browser":
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={self._port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_for_driver()
            options = {
                "args": [*FLAGS, f"--user-data-dir={self._profile.name}"],
                "binary": shutil.which("chromium"),
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            self._session = self._call(
                "POST", "/session", {"capabilities": {"alwaysMatch": wanted}}
            )["sessionId"]
            self.resize(self.width, self.height)
            self.color_scheme("dark" if self.dark else "light")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", f"/session/{self._session}")
        finally:
            self._end()

    def _end(self) -> None:
        self._driver.terminate()
        try:
            self._driver.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._driver.kill()
            self._driver.wait()
        self._profile.cleanup()

    def _wait_for_driver(self) -> None:
        for _ in range(200):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                if self._driver.poll() is not None:
                    raise BrowserError(
                        f"chromedriver ended with {self._driver.returncode}"
                    ) from None
            time.sleep(0.05)
        raise BrowserError("chromedriver did not get ready in 10 s")

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=60
        )  # no proxy: it never leaves this machine
        try:
            payload = (
                None if method == "GET" or method == "DELETE" else json.dumps(body or {}).encode()
            )
            connection.request(
                method,
                path,
                body=payload,
                headers={"Content-Type": "application/json"} if payload else {},
            )
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if isinstance(answer["value"], dict) and answer["value"].get("error"):
            raise BrowserError(f"{answer['value']['error']}: {answer['value'].get('message', '')}")
        return answer["value"]

    def _do(self, command: str, body: dict | None = None) -> Any:
        return self._call("POST", f"/session/{self._session}/{command}", body)

    def devtools(self, command: str, **arguments: Any) -> Any:
        """The answer to one command of the DevTools protocol."""
        return self._do("goog/cdp/execute", {"cmd": command, "params": arguments})

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the size of the page in CSS pixels; unlike a window it can be as narrow as a
        telephone.
        """
        self.width, self.height = width, height
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def color_scheme(self, scheme: str, *, media: str = "") -> None:
        """Sets what the page believes people prefer ("light" or "dark"), and the medium ("screen",
        "print").
        """
        self.devtools(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def open(self, page: str | Path) -> None:
        """Loads a file and waits until it is there."""
        self._do("url", {"url": Path(page).resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What `script`, the body of a function of `arguments`, returns."""
        return self._do("execute/sync", {"script": script, "args": list(arguments)})

    def _find(self, selector: str) -> str:
        return self._do("element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector: str) -> None:
        """A real click in the middle of the first element that matches."""
        self.run(
            "document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior:"
            " 'instant'})",
            selector,
        )
        self._do(f"element/{self._find(selector)}/click")

    def press(self, selector: str, keys: str) -> None:
        """Types into the first element that matches; special keys are code points above U+E000."""
        self._do(f"element/{self._find(selector)}/value", {"text": keys})

    def text(self, selector: str) -> str:
        """The text content of the first element that matches."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def count(self, selector: str) -> int:
        """How many elements match."""
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def errors(self) -> list[str]:
        """Warnings and errors on the console since the last call, also those of the page's own
        security policy.
        """
        entries = self._do("se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def screenshot(self, path: str | Path, *, full: bool = True) -> None:
        """Writes a PNG of the whole page, or of what is in view."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        Path(path).write_bytes(base64.b64decode(shot["data"]))
