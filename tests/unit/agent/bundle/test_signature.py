"""Signatures as cosign stores them, checked by openssl, under each policy; keys are made by openssl itself here."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.bundle import signature as module
from slipway.agent.bundle.signature import (
    PAYLOAD_TYPE,
    SIGNATURE,
    Signature,
    Trust,
    check_signature,
    fingerprint,
    payload_of,
    read_signatures,
    read_trust,
    write_trust,
)
from slipway.errors import BundleError, StateError

DIGEST, OTHER = ("a" * 64, "b" * 64)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "theirs"):
        make = f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}"
        subprocess.run(make.split(), cwd=folder, check=True, capture_output=True)
        subprocess.run(f"openssl pkey -in {name} -pubout -out {name}.pub".split(), cwd=folder, check=True)
    return folder


def signed(keys: Path, name: str = "mine", digest: str = DIGEST, payload: bytes | None = None) -> Signature:
    data = payload_of(digest) if payload is None else payload
    done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(keys / name)], input=data, capture_output=True)
    return Signature(data, done.stdout)


def trust(keys: Path, policy: str = "enforce") -> Trust:
    return Trust(policy, ((keys / "mine.pub").read_text(),))


def test_a_trusted_signature_counts_beside_others(keys: Path) -> None:
    who = fingerprint((keys / "mine.pub").read_text())[:16]
    assert check_signature(DIGEST, [signed(keys, "theirs"), signed(keys)], trust(keys)) == f"signed by key {who}"
    der = subprocess.run(
        ["openssl", "pkey", "-in", str(keys / "mine"), "-pubout", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(der).hexdigest()[:16] == who


def refused(keys: Path) -> dict[str, tuple[list[Signature], str]]:
    mine = signed(keys)
    return {
        "unsigned": ([], "not signed"),
        "another signer": ([signed(keys, "theirs")], "signed by somebody else"),
        "of another bundle": ([signed(keys, digest=OTHER)], "a signature of another bundle, sha256:bbb"),
        "another payload": ([Signature(payload_of(OTHER), mine.der)], "a signature of another bundle"),
        "spaces added": ([Signature(payload_of(DIGEST) + b" ", mine.der)], "signed by somebody else"),
        "no signature": ([Signature(payload_of(DIGEST), b"")], "signed by somebody else"),
        "no payload": ([signed(keys, payload=b"[]")], "a payload that cannot be read"),
        "another kind": ([signed(keys, payload=payload_of(DIGEST).replace(b"cosign", b"x"))], "of another kind"),
    }


@pytest.mark.parametrize(
    "kind",
    ["unsigned", "another signer", "of another bundle", "another payload", "spaces added", "no signature",
     "no payload", "another kind"],
)  # fmt: skip
def test_policies(kind: str, keys: Path) -> None:
    signatures, value = refused(keys)[kind]
    with pytest.raises(BundleError, match=value):
        check_signature(DIGEST, signatures, trust(keys))
    assert value in check_signature(DIGEST, signatures, trust(keys, "warn"))
    assert check_signature(DIGEST, signatures, trust(keys, "off")) == "signatures are not looked at (trust: off)"


def test_without_openssl_nothing_counts_as_signed(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(BundleError, match="openssl is not installed"):
        check_signature(DIGEST, [signed(keys)], trust(keys))
    assert check_signature(DIGEST, [signed(keys)], Trust()).startswith("warning: openssl is not installed")


def test_trust_is_written_and_read(keys: Path, tmp_path: Path) -> None:
    assert read_trust(tmp_path) == Trust("warn")
    write_trust(tmp_path, trust(keys))
    assert read_trust(tmp_path) == trust(keys)
    with pytest.raises(BundleError, match="nobody is trusted"):
        write_trust(tmp_path, Trust("enforce"))
    with pytest.raises(BundleError, match="a PEM text"):
        write_trust(tmp_path, Trust("warn", ("no key",)))
    for text in ("", "[]", '{"policy": "sometimes"}', '{"policy": "warn", "keys": 7}', "{}"):
        (tmp_path / "trust.json").write_text(text)
        with pytest.raises(StateError, match="trust of the target"):
            read_trust(tmp_path)


def manifest(**changed: Any) -> bytes:
    row = {"mediaType": PAYLOAD_TYPE, "digest": f"sha256:{OTHER}", "size": 2, "annotations": {SIGNATURE: "!!"}}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{OTHER}", "size": 2}
    document = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [row], **changed}
    return json.dumps(document).encode()


def test_stored_signatures() -> None:
    blobs = {DIGEST: manifest(), OTHER: b"{}"}
    assert read_signatures(DIGEST, blobs.__getitem__) == [Signature(b"{}", b"")]
    for changed in ({"layers": 7}, {"layers": [{}]}, {"mediaType": "x"}, {"layers": [{}] * 33}, {"config": {}}):
        with pytest.raises(BundleError, match="signature"):
            read_signatures(DIGEST, {DIGEST: manifest(**changed), OTHER: b"{}"}.__getitem__)
