"""`model.sig` read back: the files that it names, compared by their digests, and who signed it, asked of the library.

The signature is a Sigstore bundle around an in-toto statement (OpenSSF model signing v1.0): `predicate.resources` lists
path and sha256 of every file. Digests are compared here, so that a file that differs has its name whoever signed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.agent.bundle.signature import OMS, Trust, fingerprint
from slipway.deployment.bundle.signing import KnownDigests
from slipway.errors import BundleError
from slipway.system.installed import require
from slipway.system.temporary import temporary_folder

_PREDICATE = "https://model_signing/signature/v1.0"
_AGAIN = "fetch the release again from where it was signed"


def signed_digests(signature: bytes) -> dict[str, str]:
    """sha256 (hex) of every file that the signature is over, by its path. Raises BundleError for another document, and
    for one that leaves out more than itself."""
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
        predicate = statement["predicate"]
        resources = {str(row["name"]): str(row["digest"]) for row in predicate["resources"]}
        serialization = predicate["serialization"]
        kinds = (statement["predicateType"], serialization["method"], serialization["hash_type"])
        ignored = serialization.get("ignore_paths", [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as err:
        raise BundleError(f"signature {OMS}", f"{err!r:.200}", "an OpenSSF model signature", _AGAIN) from err
    if kinds != (_PREDICATE, "files", "sha256") or ignored != [OMS]:
        value = f"{kinds}, leaving out {ignored}"
        raise BundleError(f"signature {OMS}", value[:300], "sha256 of every file but itself", _AGAIN)
    return resources


def compare(signed: Mapping[str, str], present: Mapping[str, str], thing: str) -> None:
    """Raise BundleError naming the first file whose digest is not the signed one, that is missing, or that is more."""
    for name in sorted({*signed, *present}):
        if signed.get(name) == present.get(name):
            continue
        if name not in present:
            value, expected = "missing", "as signed"
        elif name not in signed:
            value, expected = "added: not signed", "signed files only"
        else:
            value, expected = f"other bytes: digest {present[name][:12]}", f"{signed[name][:12]}, as signed"
        raise BundleError(f"file {name} of {thing}", value, expected, _AGAIN)


def check_files_signature(signature: bytes, trust: Trust) -> str:
    """Who signed the files, for a person, by one of the trusted keys or roots; under `warn` also why that is nobody.

    The digests are the caller's to compare. Raises BundleError under `enforce` when nobody trusted signed,
    ResourceError without the package model-signing."""
    if trust.policy == "off":
        return "signatures are not looked at (trust: off)"
    digests, problem = signed_digests(signature), "signed, and nobody is trusted here: give a public key"
    if trust.keys or trust.roots:
        require("model_signing")
        for pem in trust.keys:
            if not (problem := _refusal(signature, digests, {"public_key": pem})):
                return f"signed by key {fingerprint(pem)[:16]}"
        if trust.roots and not (problem := _refusal(signature, digests, {"roots": "\n".join(trust.roots)})):
            return "signed by a certificate of a trusted root"
    if trust.policy == "enforce":
        raise BundleError(
            f"signature {OMS}", problem, "a signature of somebody trusted", "name the signer's public key"
        )
    return f"warning: {problem}"


def _refusal(signature: bytes, digests: Mapping[str, str], against: Mapping[str, str]) -> str:
    """Why the library does not take the signature against a key or roots; empty when it does."""
    from model_signing import verifying

    with temporary_folder("slipway-verify") as folder:
        (folder / OMS).write_bytes(signature)
        for name, text in against.items():
            (folder / name).write_text(text, encoding="ascii")
        config: Any = verifying.Config().set_hashing_config(KnownDigests("", digests))
        try:
            if "public_key" in against:
                config.use_elliptic_key_verifier(public_key=folder / "public_key")
            else:
                config.use_certificate_verifier(certificate_chain=[folder / "roots"])
            config.verify(folder, folder / OMS)
        except Exception as err:  # noqa: BLE001 (cryptography, protobuf and OpenSSL raise kinds of their own)
            return f"signed by somebody else ({type(err).__name__})"
    return ""


def read_files_signature_of(tree: Path) -> bytes:
    """The content of `model.sig` of a tree. Raises BundleError when there is none."""
    try:
        return (tree / OMS).read_bytes()
    except OSError as err:
        raise BundleError(
            f"signature {tree / OMS}", err.strerror or str(err), f"{OMS} beside the files", _AGAIN
        ) from err
