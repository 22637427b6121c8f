"""`model.sig` read back: digests by file, signers by key and by certificate, documents of something else refused."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.bundle.signature import Trust
from slipway.config.trust import SigningConfig
from slipway.deployment.bundle.files_signature import check_files_signature, compare, signed_digests
from slipway.deployment.bundle.signing import signer_for
from slipway.errors import BundleError
from tests.support.pki import make_pki

DIGESTS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("card.md", "engine/serve.json")}


def test_a_key_signs_and_only_its_public_half_verifies(tmp_path: Path) -> None:
    mine, theirs = (signer_for(SigningConfig(), tmp_path / name) for name in ("mine", "theirs"))
    signature = mine.sign_files("m", DIGESTS)
    assert signed_digests(signature) == DIGESTS
    both = Trust("enforce", (theirs.public, mine.public))
    assert check_files_signature(signature, both) == f"signed by key {mine.fingerprint[:16]}"
    with pytest.raises(BundleError, match="signed by somebody else"):
        check_files_signature(signature, Trust("enforce", (theirs.public,)))


@pytest.mark.parametrize("chained", [False, True])
def test_a_certificate_of_a_trusted_root(tmp_path: Path, chained: bool) -> None:
    pki, stranger = make_pki(tmp_path / "a", chained=chained), make_pki(tmp_path / "b", chained=False)
    config = SigningConfig(signer="certificate", key=pki.key, certificate=pki.certificate, chain=pki.chain)
    signature = signer_for(config, tmp_path).sign_files("m", DIGESTS)
    root, other = (Path(one.root).read_text() for one in (pki, stranger))
    assert (
        check_files_signature(signature, Trust("enforce", (), (root,))) == "signed by a certificate of a trusted root"
    )
    with pytest.raises(BundleError, match="signed by somebody else"):
        check_files_signature(signature, Trust("enforce", (), (other,)))


def test_a_payload_that_was_exchanged(tmp_path: Path) -> None:
    mine = signer_for(SigningConfig(), tmp_path)
    bundle, other = (json.loads(mine.sign_files("m", {"card.md": digest})) for digest in ("a" * 64, "b" * 64))
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    with pytest.raises(BundleError, match="signed by somebody else"):
        check_files_signature(json.dumps(bundle).encode(), Trust("enforce", (mine.public,)))


def enveloped(**changed: Any) -> bytes:
    predicate = {
        "serialization": {"method": "files", "hash_type": "sha256", "ignore_paths": ["model.sig"]},
        "resources": [],
    }
    statement = {"predicateType": "https://model_signing/signature/v1.0", "predicate": {**predicate, **changed}}
    return json.dumps({"dsseEnvelope": {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"dsseEnvelope": {"payload": "!"}}',
        enveloped(resources=7),
        enveloped(resources=[{}]),
        enveloped(serialization={"method": "shards", "hash_type": "sha256", "ignore_paths": ["model.sig"]}),
        enveloped(serialization={"method": "files", "hash_type": "sha256", "ignore_paths": ["model.sig", "engine"]}),
    ],
)
def test_other_documents_are_refused(data: bytes) -> None:
    assert signed_digests(enveloped()) == {}
    with pytest.raises(BundleError, match=r"signature model\.sig"):
        signed_digests(data)


@pytest.mark.parametrize(
    ("present", "value"),
    [
        ({**DIGESTS, "card.md": "0" * 64}, "other bytes"),
        ({**DIGESTS, "x": "0" * 64}, "x of a release: added"),
        ({"card.md": DIGESTS["card.md"]}, r"engine/serve\.json of a release: missing"),
    ],
)
def test_what_differs_is_named(present: dict[str, str], value: str) -> None:
    compare(DIGESTS, DIGESTS, "a release")
    with pytest.raises(BundleError, match=value):
        compare(DIGESTS, present, "a release")
