"""The registry client against a scripted registry: tokens, digests, redirects. The lab speaks to a real one."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slipway.containers.registry import Registry, credentials, split
from slipway.errors import ConfigError, ResourceError

INDEX = "application/vnd.oci.image.index.v1+json"


class Scripted(BaseHTTPRequestHandler):
    """Asks for a token of its own /token, sends blobs through a redirect, as nvcr.io and Docker Hub do."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        self.server.seen.append((path, query, self.headers.get("Authorization")))
        if path == "/token":
            return self.say(200, {"token": "t0"})
        if path.startswith("/cdn/"):
            return self.say(200, self.server.blobs[path.removeprefix("/cdn/")])
        if self.server.realm and self.headers.get("Authorization") != "Bearer t0":
            return self.say(
                401,
                {},
                {"WWW-Authenticate": f'Bearer realm="{self.server.realm}",service="lab",scope="repository:a/b:pull"'},
            )
        name = path.rpartition("/")[2]
        if "/blobs/" in path and name in self.server.blobs:
            return self.say(307, {}, {"Location": f"/cdn/{name}"})
        return (
            self.say(200, self.server.manifests[name])
            if name in self.server.manifests
            else self.say(self.server.otherwise, {})
        )

    def say(self, code, body, headers=None):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as serving:
        serving.seen, serving.blobs, serving.manifests, serving.otherwise = [], {}, {}, 404
        serving.host = f"127.0.0.1:{serving.server_port}"
        serving.realm = f"http://{serving.host}/token"
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def digest(raw):
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_a_token_is_fetched_without_a_password_and_used(server):
    server.manifests["1"] = {"mediaType": INDEX, "manifests": []}
    manifest = Registry(f"{server.host}/a/b").manifest("1")
    assert manifest.media_type == INDEX and manifest.digest == digest(json.dumps(server.manifests["1"]).encode())
    assert [(p, a) for p, _, a in server.seen] == [
        ("/v2/a/b/manifests/1", None),
        ("/token", None),
        ("/v2/a/b/manifests/1", "Bearer t0"),
    ]
    assert server.seen[1][1] == "service=lab&scope=repository%3Aa%2Fb%3Apull"


def test_the_password_of_docker_login_goes_to_the_token_service(server, tmp_path):
    word = base64.b64encode(b"$oauthtoken:key").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": word}}}))
    assert credentials(server.host) == ("$oauthtoken", "key") and credentials("other.io") is None
    server.manifests["1"] = {}
    Registry(f"{server.host}/a/b").manifest("1")
    assert server.seen[1] == ("/token", server.seen[1][1], f"Basic {word}")


def test_a_blob_is_followed_to_another_place_without_the_token(server):
    raw = b'{"architecture": "arm64"}'
    server.blobs[digest(raw)] = raw
    assert Registry(f"{server.host}/a/b").blob(digest(raw)) == {"architecture": "arm64"}
    assert server.seen[-1][0].startswith("/cdn/") and server.seen[-1][2] is None


def test_other_bytes_than_the_digest_says_are_refused(server):
    wanted = digest(b"{}")
    server.manifests[wanted] = {"not": "it"}
    server.blobs[wanted] = b'{"not": "it"}'
    for read in (Registry(f"{server.host}/a/b").manifest, Registry(f"{server.host}/a/b").blob):
        with pytest.raises(ResourceError, match="other bytes"):
            read(wanted)


def test_a_password_is_not_sent_to_a_realm_in_the_clear(server):
    server.realm = "http://example.com/token"
    with pytest.raises(ResourceError, match="an https address"):
        Registry(f"{server.host}/a/b").manifest("1")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [(404, ConfigError, "has no 9"), (403, ResourceError, "docker login"), (500, ResourceError, "answers 500")],
)
def test_what_a_registry_refuses_is_named(server, code, kind, words):
    server.realm, server.otherwise = "", code
    with pytest.raises(kind, match=words):
        Registry(f"{server.host}/a/b").manifest("9")


def test_what_is_no_registry_is_named(server):
    server.realm = ""
    server.manifests["1"] = b"<html>"
    with pytest.raises(ResourceError, match="a container registry"):
        Registry(f"{server.host}/a/b").manifest("1")


@pytest.mark.parametrize(
    ("repository", "host", "name"),
    [
        ("nvcr.io/nvidia/x", "nvcr.io", "nvidia/x"),
        ("localhost:5000/x", "localhost:5000", "x"),
        ("nvidia/cuda", "registry-1.docker.io", "nvidia/cuda"),
        ("docker.io/nvidia/cuda", "registry-1.docker.io", "nvidia/cuda"),
        ("ubuntu", "registry-1.docker.io", "library/ubuntu"),
    ],
)
def test_a_repository_names_its_host(repository, host, name):
    assert split(repository) == (host, name)
