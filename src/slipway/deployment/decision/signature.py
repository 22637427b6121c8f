"""The signature of a decision: over its sha256, by the key that signs releases, beside it in the release.

`decision.sig.json` holds the payload and cosign's annotations, as a bundle's manifest signature has them, so that the
same `openssl` check reads it. It covers the record's bytes: who can change those and not the key is seen.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from slipway.agent.bundle.signature import CERTIFICATE, CHAIN, SIGNATURE, Signature, Trust, check_signature
from slipway.config.trust import TrustConfig
from slipway.deployment.bundle.signing import FOLDER, PUBLIC, Signer, trust_of
from slipway.deployment.decision.record import FILE as RECORD
from slipway.deployment.decision.record import Decision
from slipway.errors import StateError
from slipway.system.files import sha256_bytes

FILE = "decision.sig.json"
NAME = "decision"


def signature_of(decision: Decision, signer: Signer) -> str:
    """The document that stands beside a decision."""
    payload, annotations = signer.sign_digest(decision.digest, NAME)
    return json.dumps({"payload": payload.decode(), "annotations": annotations}, indent=1) + "\n"


def documents_of(decision: Decision, signer: Signer | None) -> dict[str, str]:
    """The files of a release that a decision is: its record, and its signature where there is a signer."""
    signature = {FILE: signature_of(decision, signer)} if signer else {}
    return {RECORD: decision.text(), **signature}


def signer_sentence(decision: str, signature: str | None, trust: Trust) -> str:
    """Who signed the record with this text, or why nobody who is trusted did. Raises StateError for a signature that is
    not understood."""
    if signature is None:
        return "not signed"
    try:
        document = json.loads(signature)
        notes = {key: str(document["annotations"].get(key, "")) for key in (SIGNATURE, CERTIFICATE, CHAIN)}
        der = base64.b64decode(notes[SIGNATURE], validate=True)
        one = Signature(document["payload"].encode(), der, notes[CERTIFICATE], notes[CHAIN])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        what = f"{type(err).__name__}: {signature[:200]!r}"
        raise StateError(FILE, what, "payload and annotations", "promote the engine again") from err
    return check_signature(sha256_bytes(decision.encode()), [one], trust)


def trust_here(config: TrustConfig, store: Path) -> Trust:
    """Whom this store trusts: its own signer, where it has made a key, and those that the config names."""
    file = store.expanduser() / FOLDER / PUBLIC
    own = (file.read_text(encoding="ascii"),) if file.is_file() else ()
    named = trust_of(config, None)
    return Trust("warn", (*own, *named.keys), named.roots)
