"""A browser that is asked while it runs: Chromium over its debugging pipe, Firefox over Marionette; no package needed.

Scripts run from outside the page, so its content security policy stays as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM, FIREFOX = shutil.which("chromium"), shutil.which("firefox-esr")
_PATIENCE = 60  # seconds, for a machine that is busy


class Chromium:
    """Debian's Chromium, headless.

    Args:
        folder: for its profile.
        size: (width, height) of the window.
        dark: the user prefers dark pages.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        to_browser, write = os.pipe()
        read, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", f"--window-size={size[0]},{size[1]}"]
        flags += [f"--user-data-dir={folder / 'chromium'}", "--remote-debugging-pipe"]
        # the pipe is wherever the shell finds it: descriptors 3 and 4 of the browser
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, str(CHROMIUM), *flags, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._write, self._read = os.fdopen(write, "wb", 0), os.fdopen(read, "rb", 0)
        self._number, self._rest = 0, b""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self._ask("Target.attachToTarget", {"targetId": page, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")
        if dark:
            feature = {"name": "prefers-color-scheme", "value": "dark"}
            self._ask("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, url: str) -> None:
        """Opens a page and waits until the atlas shows something."""
        self._ask("Page.navigate", {"url": "about:blank"})
        self.requests.clear()
        self._ask("Page.navigate", {"url": url})
        self.wait("document.documentElement?.dataset?.shown !== undefined")

    def run(self, script: str) -> Any:
        """What the body of an async function returns."""
        found = self._ask(
            "Runtime.evaluate",
            {"expression": f"(async () => {{ {script} }})()", "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"].get("description", found))
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        _wait(self, condition)

    def key(self, name: str) -> None:
        """Presses a key as a user does."""
        text = name if len(name) == 1 else {"Enter": "\r"}.get(name, "")
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        one = {"key": name, "windowsVirtualKeyCode": codes.get(name, ord(name.upper()[0]))}
        self._ask("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", "text": text, **one})
        self._ask("Input.dispatchKeyEvent", {"type": "keyUp", **one})

    def narrow(self, width: int) -> None:
        """Shows pages in so many pixels, less than a headless window can have."""
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, file: Path) -> None:
        """Writes what the window shows as a PNG."""
        import base64

        file.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(20)
        self._write.close()
        self._read.close()

    def _ask(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if hasattr(self, "_session") and not method.startswith("Target."):
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._heard(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = self._read.read(1 << 16)
            assert part, "the browser ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(line))

    def _heard(self, event: dict[str, Any]) -> None:
        method, said = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"]["exception"].get("description", "exception"))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}".strip())


class Firefox:
    """Debian's Firefox, headless; the same questions as `Chromium`, as far as both can answer them."""

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800)) -> None:
        profile = folder / "firefox"
        profile.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
        self._process = subprocess.Popen(
            [str(FIREFOX), "--headless", "--marionette", "--profile", str(profile), "--no-remote"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MOZ_HEADLESS_WIDTH": str(size[0]), "MOZ_HEADLESS_HEIGHT": str(size[1])},
        )
        self._socket = _connected(port)
        self._rest, self._number = b"", 0
        self._message()  # the greeting
        self._ask("WebDriver:NewSession", {"capabilities": {}})
        self._ask("WebDriver:SetTimeouts", {"script": _PATIENCE * 1000})

    def open(self, url: str) -> None:
        """Opens a page and waits until the atlas shows something."""
        self._ask("WebDriver:Navigate", {"url": "about:blank"})
        self._ask("WebDriver:Navigate", {"url": url})
        self.wait("document.documentElement?.dataset?.shown !== undefined")

    def run(self, script: str) -> Any:
        """What the body of an async function returns."""
        wrapped = (
            "const done = arguments[arguments.length - 1]; const { scrollTo, scrollY, innerHeight, location } = window;"
            f"(async () => {{ {script} }})().then(done, (e) => done('threw ' + e));"
        )
        return self._ask("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": []})["value"]

    def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        _wait(self, condition)

    def close(self) -> None:
        """Ends the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def _ask(self, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        text = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(f"{len(text)}:".encode() + text)
        _, _, error, result = self._message()
        assert error is None, error
        return dict(result or {})

    def _message(self) -> Any:
        while b":" not in self._rest:
            self._more()
        size, self._rest = self._rest.split(b":", 1)
        while len(self._rest) < int(size):
            self._more()
        text, self._rest = self._rest[: int(size)], self._rest[int(size) :]
        return json.loads(text)

    def _more(self) -> None:
        part = self._socket.recv(1 << 16)
        assert part, "the browser ended"
        self._rest += part


def _connected(port: int) -> socket.socket:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)  # nothing else tells when it listens


def _wait(browser: Chromium | Firefox, condition: str) -> None:
    said = browser.run(
        f"const end = Date.now() + {_PATIENCE * 1000};"
        f"while (!({condition})) {{ if (Date.now() > end) return document.body.innerText.slice(0, 300);"
        "  await new Promise((go) => setTimeout(go, 20)); } return true;"
    )
    assert said is True, f"never true: {condition}; the page says: {said}"
