"""The key of an artifact: what decides its bytes, as one document, and the sha256 of that.

    {"format": 2, "stage": ..., "inputs": {name: digest}, "params": ..., "code": digest, "extra": {...}}

Same key: the artifact in the store is taken. The document holds values, so a key that is left out of it, or a digest
that no longer sees some code, would be reused wrongly: what goes in is decided here, in `code_version` and in
`config.base.born`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.config.base import Section
from slipway.store.artifacts import Artifact
from slipway.system.files import canonical, sha256_bytes

# Raised when the document changes shape, so that a run can say why it makes everything again. Format 1, until 2026-11,
# digested source files as they were written, prose and all, and held no number.
KEY_FORMAT = 2


def key_document(
    stage: str, inputs: Mapping[str, Artifact | None], params: Section, extra: Mapping[str, str], code: str
) -> dict[str, Any]:
    """What decides the bytes that `stage` makes: digests of its inputs, its params, its code version, and `extra`
    (hardware, files that params only name)."""
    return {
        "format": KEY_FORMAT,
        "stage": stage,
        "inputs": {name: artifact.digest if artifact else None for name, artifact in inputs.items()},
        "params": params.key_document(),
        "code": code,
        "extra": dict(extra),
    }


def key_of(document: Mapping[str, Any]) -> str:
    """sha256 of a key document, hex."""
    return sha256_bytes(canonical(document))
