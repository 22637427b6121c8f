"""Who signed a bundle: a signature over its manifest digest, checked by `openssl`, and whom a target trusts.

The signature is stored as cosign stores its own, so that its tools and Kubernetes policies read it too: a manifest of
one layer a signature, the layer being a payload that names the digest, the annotation beside it the ECDSA P-256
signature (DER, base64) of the payload's sha256, and for a PKI the certificate and its chain.

    <root>/trust.json    {"policy": "off" | "warn" | "enforce", "keys": [PEM...], "roots": [PEM...]}

The file is put there by whoever sets the target up; no verb of the agent writes it, so that an orchestrator in wrong
hands cannot make itself trusted. The agent has no crypto library; without `openssl` nothing counts as signed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.bundle.manifest import CONFIG_TYPE, MANIFEST_TYPE, Descriptor, descriptor, json_object
from slipway.agent.files import write_atomic
from slipway.agent.records import Fields, is_present, read_json
from slipway.errors import BundleError

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
OMS_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"  # the signature over the files, `model.sig` in a tree
OMS = "model.sig"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE, CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
_KIND = "cosign container image signature"
POLICIES = ("off", "warn", "enforce")
TRUST = "trust.json"
_MOST_SIGNATURES = 32
_OPENSSL_S = 20
_MEND = "set the target up again, or mend the file"


@dataclass(frozen=True)
class Trust:
    """Whom a target believes. `keys`: public keys, `roots`: certificates of authorities, both as PEM texts."""

    policy: str = "warn"
    keys: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """A payload and its DER signature, with the signer's certificate and its chain (PEM) where there are any."""

    payload: bytes
    der: bytes
    certificate: str = ""
    chain: str = ""


def payload_of(digest: str, name: str = "") -> bytes:
    """What is signed for the manifest of this digest (hex), as JSON with one spelling. `name`: of the bundle."""
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": f"sha256:{digest}"},
        "type": _KIND,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":"), sort_keys=True).encode()


def fingerprint(pem: str) -> str:
    """sha256 (hex) of the DER of a public key or certificate. Raises BundleError for a text that is no PEM."""
    match = re.search(r"-----BEGIN ([A-Z ]+)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----", pem)
    body = "".join(match[2].split()) if match else "no base64"
    try:
        return hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest()
    except ValueError:  # binascii's is one
        raise BundleError("key or certificate", f"{pem[:60]!r}", "a PEM text", "export it again as PEM") from None


def read_trust(root: Path) -> Trust:
    """The trust of a target; without a file nobody is trusted and every release gets a warning. Raises StateError for a
    file that cannot be read."""
    file = root / TRUST
    if not is_present(file):
        return Trust()
    fields = Fields(read_json(file, "trust of the target", _MEND), f"trust of the target: {file}", _MEND)
    policy = fields.text("policy", pattern="|".join(POLICIES))
    return Trust(policy, fields.texts("keys", ()), fields.texts("roots", ()))


def write_trust(root: Path, trust: Trust) -> None:
    """Write a target's trust. Raises BundleError for a key that is no PEM, and for `enforce` without anybody."""
    for pem in (*trust.keys, *trust.roots):
        fingerprint(pem)
    if trust.policy == "enforce" and not (trust.keys or trust.roots):
        raise BundleError("trust of the target", "enforce, and nobody is trusted", "a public key or a root", "name one")
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / TRUST, json.dumps({**vars(trust)}, indent=1) + "\n")


def read_signatures(digest: str, read_blob: Callable[[str], bytes]) -> list[Signature]:
    """The signatures in the manifest of this digest (hex). `read_blob` returns a blob by its digest, checked.

    Raises BundleError for a manifest of something else."""
    signatures = []
    for row in _attached(digest, PAYLOAD_TYPE, read_blob):
        try:
            der = base64.b64decode(row.annotations.get(SIGNATURE, ""), validate=True)
        except ValueError:  # binascii's is one
            der = b""
        texts = (row.annotations.get(CERTIFICATE, ""), row.annotations.get(CHAIN, ""))
        signatures.append(Signature(read_blob(row.digest), der, *texts))
    return signatures


def read_files_signature(digest: str, read_blob: Callable[[str], bytes]) -> bytes:
    """The document `model.sig` out of the manifest of this digest (hex). Raises BundleError for another manifest."""
    rows = _attached(digest, OMS_TYPE, read_blob)
    if len(rows) != 1:
        raise BundleError(f"signature {digest[:12]} of files", f"{len(rows)} documents", "one", "sign the bundle again")
    return read_blob(rows[0].digest)


def check_signature(digest: str, signatures: Iterable[Signature], trust: Trust) -> str:
    """Who signed the bundle with this manifest digest, for a person; under `warn` also why nobody who is trusted did.

    Raises BundleError under `enforce` when nobody who is trusted signed it."""
    if trust.policy == "off":
        return "signatures are not looked at (trust: off)"
    signatures, problems = list(signatures), []
    if signatures and shutil.which("openssl") is None:
        signatures, problems = [], ["openssl is not installed on this machine: no signature can be checked"]
    for signature in signatures:
        signer, problem = _signer(digest, signature, trust)
        if signer:
            return f"signed by {signer}"
        problems.append(problem)
    value = "; ".join(dict.fromkeys(problems)) or "not signed"
    if trust.policy == "enforce":
        trusted = ", ".join(fingerprint(pem)[:16] for pem in (*trust.keys, *trust.roots))
        next_step = "sign it with a trusted key, or add the signer's public key to the target's trust"
        raise BundleError(f"bundle {digest[:12]}", value, f"a signature of {trusted or 'somebody trusted'}", next_step)
    return f"warning: {value}"


def _attached(digest: str, media_type: str, read_blob: Callable[[str], bytes]) -> list[Descriptor]:
    """What a manifest that is attached to a bundle holds."""
    thing = f"signatures {digest[:12]}"
    document = json_object(read_blob(digest), thing)
    rows = document.get("layers")
    if document.get("mediaType") != MANIFEST_TYPE or not isinstance(rows, list) or len(rows) > _MOST_SIGNATURES:
        raise BundleError(thing, f"{document!r:.100}", "a manifest of signatures", "sign the bundle again")
    read_blob(descriptor(document.get("config"), CONFIG_TYPE, f"config of {thing}").digest)  # taken in with the others
    return [descriptor(row, media_type, f"signature in {thing}") for row in rows]


def _signer(digest: str, signature: Signature, trust: Trust) -> tuple[str, str]:
    """(who signed, "") or ("", why it does not count)."""
    named = _digest_in(signature.payload)
    if named != f"sha256:{digest}":
        return "", f"a signature of another bundle, {named:.80}"
    with tempfile.TemporaryDirectory(prefix="slipway-signature-") as folder:
        keys = [*trust.keys]
        if signature.certificate and trust.roots and (key := _certified(signature, trust, Path(folder))):
            keys.append(key)
        for key in keys:
            if _verifies(key, signature, Path(folder)):
                return f"key {fingerprint(key)[:16]}", ""
    return "", _another_signer(signature, bool(keys))


def _another_signer(signature: Signature, has_keys: bool) -> str:
    whose = f", certificate {fingerprint(signature.certificate)[:16]}" if signature.certificate else ""
    return f"signed by somebody else{whose}" if has_keys else f"signed{whose}, and nobody is trusted here"


def _digest_in(payload: bytes) -> str:
    try:
        critical = json.loads(payload)["critical"]
        return str(critical["image"]["docker-manifest-digest"]) if critical["type"] == _KIND else "of another kind"
    except (ValueError, TypeError, KeyError, RecursionError):
        return "a payload that cannot be read"


def _certified(signature: Signature, trust: Trust, folder: Path) -> str:
    """The public key of a certificate that leads to a trusted root now; empty otherwise."""
    for name, text in (("leaf", signature.certificate), ("chain", signature.chain), ("roots", "\n".join(trust.roots))):
        (folder / name).write_text(text + "\n", encoding="utf-8")
    untrusted = ["-untrusted", str(folder / "chain")] if signature.chain.strip() else []
    verify = ["verify", "-no-CApath", "-no-CAstore", "-CAfile", str(folder / "roots"), *untrusted, str(folder / "leaf")]
    if _openssl(*verify)[0] != 0:
        return ""
    status, text = _openssl("x509", "-in", str(folder / "leaf"), "-noout", "-pubkey")
    return text if status == 0 else ""


def _verifies(key: str, signature: Signature, folder: Path) -> bool:
    (folder / "key").write_text(key, encoding="utf-8")
    (folder / "signature").write_bytes(signature.der)
    (folder / "payload").write_bytes(signature.payload)
    files = ["-verify", str(folder / "key"), "-signature", str(folder / "signature"), str(folder / "payload")]
    return _openssl("dgst", "-sha256", *files)[0] == 0


def _openssl(*arguments: str) -> tuple[int, str]:
    """(exit status, output)."""
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, timeout=_OPENSSL_S, errors="replace"
    )
    return done.returncode, done.stdout
