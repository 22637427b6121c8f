"""The chat page in a browser: an answer with its passages, an agent's steps, and who is refused. The server behind it
says what it is told, so that the page can be compared with what was said; text of it is never HTML."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slipway.store.usage import INDEX_POINTER
from tests.support import faq
from tests.support.browser import browser
from tests.support.pico_embedder import pico_embedder
from tests.support.scripted_server import scripted

ROOT = Path(__file__).parents[3]
START_S = 120.0
COUNT = "/Sources: ([0-9]+)/.exec(document.body.innerText)[1]"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`slipway chat` on an index of four documents; the address that it printed."""
    folder = tmp_path_factory.mktemp("chat")
    params = pico_embedder(folder / "model")
    faq.built_index(folder / "store/index/k", params, cache=folder)
    (folder / "store" / INDEX_POINTER).write_text("k bm25\n")
    env = {**os.environ, "PYTHON": sys.executable}
    install = subprocess.run([ROOT / "infra/lab/packages", "chat"], check=True, env=env, capture_output=True, text=True)
    embedder = yaml.safe_dump(params.model_dump(mode="json"), default_flow_style=True, width=10000).strip()
    words = [f"store.root={folder / 'store'}", f"store.cache={folder / 'cache'}", f"rag.embedder={embedder}"]
    words += ["rag.answers={context_tokens: 64, prompt: 'say {question} {passages}'}"]
    with scripted() as (url, _), (folder / "log").open("w+") as log:
        command = [sys.executable, "-m", "slipway", "chat", "--url", url, "--model", "tiny"]
        command += [word for one in words for word in ("--set", one)]
        env.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI takes it for a test of its own
        env |= {"PYTHONPATH": install.stdout.strip(), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            yield _printed(process, folder / "log")
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        assert code in (0, 130), (folder / "log").read_text()


def _printed(process: subprocess.Popen[bytes], log: Path) -> str:
    """The page's address, once it answers."""
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        if match := re.search(r"http://127\S+key=\S+", log.read_text()):
            try:
                with urllib.request.urlopen(match[0], timeout=10):
                    return match[0]
            except OSError:
                pass
        time.sleep(0.2)


def test_a_person_sees_answers_sources_and_steps(address: str) -> None:
    with browser() as page:
        page.open(address)
        page.wait_for_text("k by bm25")
        page.focus("input")
        page.type("word1list <b>bold</b> [1]")
        page.click("Send", "button")
        page.wait_for_text("Sources: ")
        assert "word1list <b>bold</b> [1] <passage 1>" in page.text() and not page.run("document.querySelector('b')")
        page.run(
            "[...document.querySelectorAll('*')].find((e) => e.innerText && /^Sources: /.test(e.innerText)).click()"
        )
        page.wait_for_text("[1] d1, cited")
        page.click("Agent", "button, span, div")
        page.focus("input")
        page.type("fly to the moon")
        page.click("Send", "button")
        page.wait_for_text("Nothing changed in the home.")
        assert "there is no tool 'fly to the moon'" in page.text() and re.search(r"Steps: \d", page.text())


def test_strangers_get_nothing(address: str) -> None:
    with urllib.request.urlopen(address.split("?")[0], timeout=30) as answer:
        text = answer.read().decode()
    assert "lacks its key" in text and "Ask, or tell" not in text
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "page.example.com"}), timeout=30)
