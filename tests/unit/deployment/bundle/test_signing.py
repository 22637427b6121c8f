"""The signer: its key is the owner's alone, the library verifies what it signs, and openssl does too."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.bundle.signature import OMS, Signature, Trust, check_signature, fingerprint
from slipway.config.trust import SigningConfig, TrustConfig
from slipway.deployment.bundle.signing import signer_for, trust_of
from slipway.errors import BundleError, ConfigError, ResourceError
from tests.support.pki import make_pki

DIGEST = hashlib.sha256(b"manifest").hexdigest()


def signature(payload: bytes, annotations: dict[str, str]) -> Signature:
    import base64

    der = base64.b64decode(annotations["dev.cosignproject.cosign/signature"])
    certificate, chain = (annotations.get(f"dev.sigstore.cosign/{name}", "") for name in ("certificate", "chain"))
    return Signature(payload, der, certificate, chain)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = signer_for(SigningConfig(), tmp_path)
    assert first.key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "signing/key.pub").read_text() == first.public
    assert signer_for(SigningConfig(), tmp_path).fingerprint == first.fingerprint
    first.key.chmod(0o640)
    with pytest.raises(ResourceError, match="mode 640"):
        signer_for(SigningConfig(), tmp_path)


def test_a_manifest_digest_is_verified_by_openssl(tmp_path: Path) -> None:
    signer = signer_for(SigningConfig(), tmp_path)
    made = signature(*signer.sign_digest(DIGEST, "home-intents"))
    trusted = trust_of(TrustConfig(policy="enforce"), signer)
    assert check_signature(DIGEST, [made], trusted) == f"signed by key {signer.fingerprint[:16]}"
    other = signer_for(SigningConfig(), tmp_path / "other")
    with pytest.raises(BundleError, match="signed by somebody else"):
        check_signature(DIGEST, [made], Trust("enforce", (other.public,)))


@pytest.mark.parametrize("chained", [False, True])
def test_a_certificate_of_a_pki(tmp_path: Path, chained: bool) -> None:
    pki = make_pki(tmp_path, chained=chained)
    config = SigningConfig(signer="certificate", key=pki.key, certificate=pki.certificate, chain=pki.chain)
    signer = signer_for(config, tmp_path)
    made = signature(*signer.sign_digest(DIGEST))
    roots = (Path(pki.root).read_text(),)
    assert check_signature(DIGEST, [made], Trust("enforce", (), roots)).startswith("signed by key")
    stranger = make_pki(tmp_path / "stranger", chained=False)
    with pytest.raises(BundleError, match="certificate"):
        check_signature(DIGEST, [made], Trust("enforce", (), (Path(stranger.root).read_text(),)))
    with pytest.raises(ConfigError, match="a certificate of the key"):
        signer_for(config.model_copy(update={"key": stranger.key}), tmp_path)


def test_the_library_verifies_the_files(tmp_path: Path) -> None:
    """As its documentation has it, with a program of its own: the digests that we knew are those of the files."""
    signer, tree = signer_for(SigningConfig(), tmp_path), tmp_path / "tree"
    digests = {}
    for name in ("engine/model.gguf", "card.md", "engine/caches/deep/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    (tree / OMS).write_bytes(signer.sign_files("home-intents", digests))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(tree), "--signature", str(tree / OMS)]
    command += ["--public_key", str(tmp_path / "signing/key.pub"), "--no-ignore-git-paths"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
    (tree / "engine/caches/deep/x").write_text("y")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "deep/x" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "value"), [("", "PEM"), ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM")]
)
def test_a_key_that_is_none(text: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match=value):
        signer_for(SigningConfig(key=str(tmp_path / "key")), tmp_path)


def test_a_key_on_another_curve(tmp_path: Path) -> None:
    curve = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out"]
    subprocess.run([*curve, str(tmp_path / "key")], check=True, capture_output=True)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match="P-256"):
        signer_for(SigningConfig(key=str(tmp_path / "key")), tmp_path)


def test_trust_names_files_that_are_keys(tmp_path: Path) -> None:
    own = signer_for(SigningConfig(), tmp_path)
    other = signer_for(SigningConfig(), tmp_path / "other")
    public = str(tmp_path / "other/signing/key.pub")
    trust = trust_of(TrustConfig(signers=(public, public)), own)
    assert [fingerprint(pem) for pem in trust.keys] == [own.fingerprint, other.fingerprint]
    (tmp_path / "text").write_text("no key")
    with pytest.raises(ConfigError, match=r"deploy\.trust\.signers"):
        trust_of(TrustConfig(signers=(str(tmp_path / "text"),)), own)
    with pytest.raises(ConfigError, match="readable PEM"):
        trust_of(TrustConfig(signers=(str(tmp_path / "none"),)), own)


def test_sigstore_without_a_login_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import model_signing.signing as library

    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("no route to fulcio")

    monkeypatch.setattr(library.Config, "use_sigstore_signer", unreachable)
    signer = signer_for(SigningConfig(signer="sigstore"), tmp_path)
    with pytest.raises(ResourceError, match="no route to fulcio"):
        signer.sign_files("m", {})
    assert check_signature(
        DIGEST, [signature(*signer.sign_digest(DIGEST))], Trust("enforce", (signer.public,))
    ).startswith("signed by key"), "the manifest is signed by the key all the same"
