"""How a stage asks a bundle, on a scripted server that lives, and on one that dies while it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import parse
from slipway.engines.chat_client import ChatClient
from slipway.engines.stage_serving import ServingParams, bundle_server, serving_keys
from slipway.errors import EngineError
from slipway.pipeline.workspace import Workspace
from slipway.stages import agent_eval, answer_eval, evaluate
from slipway.system import http
from slipway.system.progress import Progress
from tests.support.scripted_server import bundle

ELSEWHERE = {"serving": {"name": "elsewhere"}, "engine": {"cache_dir": "/caches", "cache_gb": 7}}


def asked(tmp_path: Path, *requests: str) -> list[str]:
    """What the server of a bundle answers a stage."""
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    made = bundle(tmp_path / "engine")
    with (
        bundle_server(made, ServingParams(), space) as endpoint,
        ChatClient(endpoint.url, endpoint.model, 60) as client,
    ):
        assert endpoint.job.work == (tmp_path / "work/server").resolve()
        return [client.ask([{"role": "user", "content": text}], 8).text for text in requests]


def test_it_serves_for_the_block_and_ends_with_it(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    with bundle_server(bundle(tmp_path / "engine"), ServingParams(), space) as endpoint:
        assert endpoint.is_healthy()
    assert not http.is_healthy(f"{endpoint.base}/health", 2, direct=True)


def test_a_server_that_died_is_named_and_not_the_connection_that_was_lost(tmp_path: Path) -> None:
    assert asked(tmp_path, "say one") == ["one"]
    with pytest.raises(EngineError, match=r"(?s)engine server .*died.*listening on"):
        asked(tmp_path, "say one", "die")


def test_what_a_server_that_lives_did_wrong_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the request is too long"):
        asked(tmp_path, "refuse")


def test_a_bundle_without_a_plan_is_refused_before_anything_starts(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    (tmp_path / "engine").mkdir()
    with (
        pytest.raises(EngineError, match=r"no serve\.json"),
        bundle_server(tmp_path / "engine", ServingParams(), space),
    ):
        pass
    assert not (tmp_path / "work").exists()


def test_where_it_is_served_is_in_no_key_of_the_stages_that_ask() -> None:
    def params(config: Any) -> list[ServingParams]:
        return [
            agent_eval.params_of(config),
            answer_eval.params_of(config, "bm25"),
            evaluate.params_of(config, speed=True),
        ]

    here, there = params(parse({}, "a test")), params(parse(ELSEWHERE, "a test"))
    assert [one.key_document() for one in here] == [one.key_document() for one in there]
    assert {(one.serving.name, one.cache_dir, one.cache_gb) for one in there} == {("elsewhere", "/caches", 7)}
    assert serving_keys(parse(ELSEWHERE, "a test")).keys() == ServingParams.model_fields.keys()
