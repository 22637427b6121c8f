"""A bundle through a real registry by skopeo, and unpacked by tar: one digest everywhere, and still what was signed."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.agent.bundle.signature import OMS, Trust, read_files_signature
from slipway.deployment.bundle.oci_layout import FILES_SIGNATURE, SIGNATURES, OciLayout, attached_ref
from slipway.deployment.bundle.release import PackedRelease, pack
from slipway.deployment.bundle.verification import verify
from slipway.errors import BundleError
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.support import debian
from tests.support.shippable import checkpoint, gpu_engine, packed, signer

NAME = "0001-aaaaaaaa"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a docker-registry that lives as long as the module's tests."""
    for tool in ("skopeo", "docker-registry"):
        debian.install(tool, unless=tool)
    folder, port = tmp_path_factory.mktemp("registry"), any_port()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/v2/"):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def copy(source: str, to: str, *options: str) -> None:
    insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    command = ["skopeo", "--insecure-policy", "copy", *insecure, *options, source, to]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def refs(release: PackedRelease) -> list[str]:
    return [NAME, *(attached_ref(release.bundle.digest, suffix) for suffix in (SIGNATURES, FILES_SIGNATURE))]


def test_a_registry_keeps_the_digest_and_both_signatures(registry: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    release = packed(store, tmp_path / "layout", NAME)
    for ref in refs(release):
        copy(f"oci:{tmp_path}/layout:{ref}", f"docker://{registry}/m:{ref}", "--preserve-digests")
    request = urllib.request.Request(
        f"http://{registry}/v2/m/manifests/{NAME}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        method="HEAD",
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == f"sha256:{release.bundle.digest}"
    for ref in refs(release):
        copy(f"docker://{registry}/m:{ref}", f"oci:{tmp_path}/back:{ref}", "--preserve-digests")
    (back,) = verify(tmp_path / "back", Trust("enforce", (signer(store).public,)))
    assert back.digest == release.bundle.digest
    assert len(back.signed) == 2
    second = packed(store, tmp_path / "layout", "0002-bbbbbbbb", changed_layers=(1,))
    copy(f"oci:{tmp_path}/layout:0002-bbbbbbbb", f"docker://{registry}/m:two", "--preserve-digests")
    shared = {layer.digest for layer in release.bundle.layers} & {layer.digest for layer in second.bundle.layers}
    assert len(shared) > len(second.bundle.layers) // 2


def test_tar_unpacks_the_files_that_were_signed(tmp_path: Path) -> None:
    """As a container engine does: layer over layer, then `model.sig` beside them."""
    store = Store(tmp_path / "store")
    release = packed(store, tmp_path / "layout", NAME)
    layout = OciLayout(tmp_path / "layout")
    for row in json.loads(layout.read_blob(release.bundle.digest))["layers"]:
        blob = layout.blobs / row["digest"].removeprefix("sha256:")
        subprocess.run(["tar", "-xpf", str(blob), "-C", str(tmp_path)], check=True)
    tree = tmp_path / "models"
    (tree / OMS).write_bytes(read_files_signature(release.files_signature, layout.read_blob))
    trust = Trust("enforce", (signer(store).public,))
    (verified,) = verify(tree, trust)
    assert verified.files == len(release.bundle.members())
    (tree / "engine/serve.json").chmod(0o600)
    with pytest.raises(BundleError, match="mode 0600"):
        verify(tree, trust)


def test_transformers_loads_the_model_of_a_bundle(tmp_path: Path) -> None:
    """Weights cut by layers, their index and the small files beside them are a model as before."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    store = Store(tmp_path / "store")
    model = checkpoint(store, "q")
    engine = gpu_engine(store, "e", model)
    layout = OciLayout(tmp_path / "layout")
    release = pack(engine, {}, signer(store), layout, name=NAME, model="m", architecture="arm64")
    for layer in release.bundle.layers:
        subprocess.run(["tar", "-xpf", str(layout.blobs / layer.digest), "-C", str(tmp_path)], check=True)
    unpacked = tmp_path / "models/engine/model"
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (model.path, unpacked))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(unpacked)("turn on")["input_ids"]
