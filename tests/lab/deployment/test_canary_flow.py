"""A canary as a run of a real Prefect server: HAProxy, engines of their own processes, clients that ask."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from slipway.deployment.state import champion
from slipway.system.ports import any_port
from tests.flow.test_decisions import PERSON, Site, client, site  # noqa: F401 (fixtures)
from tests.support.target import make_verdict

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@contextmanager
def asking(port: int) -> Iterator[list[int]]:
    """A client that asks one question after the other; the statuses that it got."""
    statuses: list[int] = []
    over = threading.Event()
    body = json.dumps({"messages": [{"role": "user", "content": "u"}], "max_tokens": 8}).encode()

    def ask() -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        while not over.is_set():
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            try:
                with opener.open(request, timeout=60) as answer:
                    answer.read()
                    statuses.append(answer.status)
            except OSError as err:
                statuses.append(getattr(err, "code", 0))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for one in clients:
        one.start()
    try:
        yield statuses
    finally:
        over.set()
        for one in clients:
            one.join()


def test_a_run_mirrors_switches_and_refuses_what_answers_otherwise(
    haproxy: None,
    site: Callable[..., Site],  # noqa: F811
) -> None:
    """The same answers: the run decides and promotes. Others, which nobody judges: it fails, and the champion stays."""
    port = any_port()
    canary = {"way": "mirror", "for_s": 60, "margin": 0.2}
    here = site(chosen=PERSON, proxy={"kind": "haproxy", "port": port}, canary=canary)
    with asking(port) as statuses:
        promoted = here.go(*here.deployed(by_event=False))
    assert promoted.is_completed(), promoted.message
    second = champion(here.params)
    assert second and second.name.startswith("0002")
    report = second.checks["canary"]
    assert (report["outcome"], report["failed"]) == ("no_difference", 0) and report["compared"] > 5
    here.candidate = here._engine(answer="another answer")
    here.verdict = make_verdict(here.store, here.candidate, against=[second.engine(here.store.root)])
    here.params = here.params.model_copy(update={"canary": here.params.canary.model_copy(update={"for_s": 3.0})})
    with asking(port) as others:
        refused = here.go(*here.deployed(by_event=False))
    assert refused.is_failed() and "canary" in str(refused.message), refused
    assert champion(here.params) == second
    assert set(statuses + others) == {200}, "no request was lost on the way"
