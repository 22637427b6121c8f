"""A headless chromium driven over its DevTools protocol: open a page, wait for what it shows, click and type.

Everything is found by the text or the label that a person reads. A wait polls a condition; what does not come within it
raises with the page's text.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websockets.sync.client

from tests.support import debian

START_S, PAGE_S = 60.0, 120.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--remote-debugging-port=0", "--window-size=1500,1400", "--force-prefers-reduced-motion")  # fmt: skip
# The innermost visible element whose own text, label or placeholder is the one asked for.
FIND = """
(function(text, tags) {
  const shown = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const same = (e) => [e.innerText, e.getAttribute('aria-label'), e.getAttribute('placeholder'), e.value]
    .some((t) => (t || '').trim() === text);
  const all = [...document.querySelectorAll(tags)].filter((e) => shown(e) && same(e));
  return all.length ? all[all.length - 1] : null;
})
"""


class Browser:
    """One page of a running chromium."""

    def __init__(self, socket: websockets.sync.client.ClientConnection) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self.call("Page.enable")
        self.call("Network.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; its result. Events that come meanwhile are passed over."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=PAGE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        """What the page shows as text."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait(self, script: str) -> Any:
        """Wait until a JavaScript expression has a true value; that value."""
        deadline = time.monotonic() + PAGE_S
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} did not come true on a page that says:\n{self.text()[:3000]}"
            time.sleep(0.2)
        return value

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.wait(f"(document.body ? document.body.innerText : '').includes({json.dumps(text)})")

    def click(
        self, text: str, tags: str = "button, a, [role=option], [role=menuitem], label, input, span, div"
    ) -> None:
        """Click, with the mouse, the middle of what carries this text."""
        place = f"{FIND}({json.dumps(text)}, {json.dumps(tags)})"
        self.wait(f"!!{place}")
        self.run(f"{place}.scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(() => {{ const r = {place}.getBoundingClientRect(); return [r.x + r.width/2, r.y + r.height/2]; }})()"
        )
        self._mouse(*box)

    def focus(self, selector: str, at: int = 0) -> None:
        """Give the focus to an element that a CSS selector names, the first or the one `at` this place."""
        all_of = f"document.querySelectorAll({json.dumps(selector)})"
        self.wait(f"{all_of}.length > {at}")
        self.run(f"{all_of}[{at}].focus()")

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a `select`, as its list would: a headless browser opens no list to click in."""
        self.focus(selector)
        one = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"[...{one}.options].some((option) => option.value === {json.dumps(value)})")
        self.run(f"{one}.value = {json.dumps(value)}")
        self.run(f"['input', 'change'].forEach((kind) => {one}.dispatchEvent(new Event(kind, {{bubbles: true}})))")

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        for letter in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", key=letter, text=letter)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def screenshot(self, file: Path) -> None:
        """Save what the page looks like as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _mouse(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def chromium() -> str | None:
    """Path of the browser; None where none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A fresh browser for the time of the block."""
    if chromium() is None:
        debian.install("chromium")
    program = chromium()
    assert program, "chromium was installed and is not on the PATH"
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with websockets.sync.client.connect(
                _page(Path(profile), process), proxy=None, max_size=None, ping_interval=None
            ) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait()


def _page(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first page's debugger."""
    file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_S
    while not file.exists() or not file.read_text().strip():
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        assert time.monotonic() < deadline, "chromium did not open its debugging port"
        time.sleep(0.1)
    port = int(file.read_text().split()[0])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as answer:
        pages = [page for page in json.load(answer) if page["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
