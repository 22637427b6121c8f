"""Small bundles of given files, packed by the same functions as real ones, to spoil in tests."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.agent.agent import Agent
from slipway.agent.bundle.layer_tar import ROOT, TAIL, Member, head_of, padding
from slipway.agent.bundle.manifest import (
    ARCHITECTURES,
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    MEMBERS,
    PART,
    ROLE,
    Bundle,
    parse_bundle,
)
from slipway.agent.bundle.release import stage, verify_release
from slipway.agent.bundle.signature import PAYLOAD_TYPE, SIGNATURE, payload_of

HERE = ARCHITECTURES.get(platform.machine(), platform.machine())
NAME = "0001-0123abcd"
FILES = {
    "engine/serve.json": b'{"kind": "llama.cpp"}\n',
    "engine/server": b"#!/bin/sh\n",
    "engine/model.gguf": b"weights " * 200,
    "card.md": b"# Card\n",
}


def documents(
    files: Mapping[str, bytes] = FILES, architecture: str = "amd64", **spoiled: Any
) -> tuple[bytes, bytes, list[bytes]]:
    """Manifest, config and layers (one a file) of a bundle. `spoiled`: keys of the manifest to replace; `config_KEY`:
    of the config."""
    members = [Member(ROOT + name, len(data), 0o755 if "server" in name else 0o644) for name, data in files.items()]
    layers = [
        head_of(one) + data + padding(one.size) + bytes(TAIL) for one, data in zip(members, files.values(), strict=True)
    ]
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
        MEMBERS: [[vars(one)] for one in members],
        **{key.removeprefix("config_"): value for key, value in spoiled.items() if key.startswith("config_")},
    }
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": f"sha256:{hashlib.sha256(config_bytes).hexdigest()}",
            "size": len(config_bytes),
        },
        "layers": [
            {
                "mediaType": LAYER_TYPE,
                "digest": digest,
                "size": len(layer),
                "annotations": {ROLE: "engine", PART: "file"},
            }
            for digest, layer in zip(digests, layers, strict=True)
        ],
        **{key: value for key, value in spoiled.items() if not key.startswith("config_")},
    }
    return json.dumps(manifest).encode(), config_bytes, layers


def incoming(folder: Path, files: Mapping[str, bytes] = FILES, architecture: str = "amd64") -> Bundle:
    """Write a bundle's blobs into `folder` by their digests, as a transport does; the bundle."""
    manifest, config, layers = documents(files, architecture)
    folder.mkdir(parents=True, exist_ok=True)
    for blob in (manifest, config, *layers):
        (folder / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    return parse_bundle(manifest, config)


def key_pair(folder: Path) -> tuple[Path, str]:
    """A private key's file and the public key as PEM, both made by openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    private = folder / "private.pem"
    curve = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(private)]
    subprocess.run(curve, check=True, capture_output=True)
    private.chmod(0o600)
    public = subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True)
    return private, public.stdout.decode()


def signed_with(key: Path, payload: bytes) -> bytes:
    """The DER signature of a payload by openssl."""
    sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    return subprocess.run(sign, input=payload, check=True, capture_output=True).stdout


def attached(folder: Path, payload: bytes, der: bytes) -> str:
    """Write a signature's manifest and blobs into `folder`; the manifest's digest."""
    config = b"{}"
    layer = {"mediaType": PAYLOAD_TYPE, "digest": f"sha256:{hashlib.sha256(payload).hexdigest()}", "size": len(payload)}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{hashlib.sha256(config).hexdigest()}", "size": 2},
        "layers": [{**layer, "annotations": {SIGNATURE: base64.b64encode(der).decode()}}],
    }
    manifest = json.dumps(document).encode()
    for blob in (manifest, config, payload):
        (folder / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    return hashlib.sha256(manifest).hexdigest()


def sent(agent: Agent, key: Path | None = None, files: Mapping[str, bytes] = FILES) -> dict[str, Any]:
    """A bundle in the agent's `incoming/`, signed where a key is given; what `receive` is asked."""
    bundle = incoming(agent.paths.incoming, files, HERE)
    request: dict[str, Any] = {"manifest": bundle.digest}
    if key:
        payload = payload_of(bundle.digest)
        request["signature"] = attached(agent.paths.incoming, payload, signed_with(key, payload))
    return request


def staged(agent: Agent, request: dict[str, Any], name: str = NAME) -> Path:
    """The release's folder that a bundle was received, linked and checked for."""
    agent.call("receive", request)
    folder = agent.paths.release(name)
    folder.mkdir(parents=True)
    stage(agent.paths.root, request, folder)
    verify_release(agent.paths.root, folder, full=True)
    return folder
