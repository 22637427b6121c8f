"""A Service of the tests' cluster through a local port: whole answers, the engine's own status, 502 without it."""

from __future__ import annotations

from pathlib import Path

import httpx

from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.deployment.kubernetes.tunnel import tunnel
from tests.support.kubernetes_scene import ONE, TWO, Scene, fine, release
from tests.support.kubernetes_server import kubernetes_server


def test_a_client_asks_a_release_by_a_local_port(tmp_path: Path) -> None:
    with kubernetes_server(tmp_path) as (cluster, config):
        scene = Scene(cluster, config)
        target, api = scene.target(), KubernetesAPI(scene.params())
        for name, mode in ((ONE, "serve"), (TWO, "key")):
            target.promote(release(name, mode), fine)
        with tunnel(api, f"chat-{TWO}", 8000) as port:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={"a": 1}, trust_env=False)
            assert (answer.status_code, answer.text) == (401, TWO)  # the engine's word, not the API server's
            assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
            assert httpx.post(f"http://127.0.0.1:{port}/x", content=b"{", trust_env=False).status_code == 502
        cluster.fail = lambda method, path: 403
        with tunnel(api, f"chat-{ONE}", 8000) as port:
            assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 502
