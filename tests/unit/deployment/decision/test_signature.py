"""A decision's signature: made by the store's key, checked with openssl, broken by a changed byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.trust import SigningConfig, TrustConfig
from slipway.deployment.bundle.signing import signer_for
from slipway.deployment.decision.signature import documents_of, signature_of, signer_sentence, trust_here
from slipway.errors import StateError
from tests.unit.deployment.decision.test_explanation import DECISION


def test_the_store_s_own_signer_is_named(tmp_path: Path) -> None:
    signer = signer_for(SigningConfig(), tmp_path)
    signature, trust = signature_of(DECISION, signer), trust_here(TrustConfig(), tmp_path)
    assert signer_sentence(DECISION.text(), signature, trust).startswith("signed by")
    changed = DECISION.text().replace("own-line", "never")
    assert signer_sentence(changed, signature, trust).startswith("warning")


def test_a_release_without_a_signer_has_the_record_alone(tmp_path: Path) -> None:
    assert documents_of(DECISION, None) == {"decision.json": DECISION.text()}
    assert set(documents_of(DECISION, signer_for(SigningConfig(), tmp_path))) == {"decision.json", "decision.sig.json"}


def test_another_signer_is_no_trusted_one(tmp_path: Path) -> None:
    signature = signature_of(DECISION, signer_for(SigningConfig(), tmp_path / "theirs"))
    signer_for(SigningConfig(), tmp_path / "ours")
    sentence = signer_sentence(DECISION.text(), signature, trust_here(TrustConfig(), tmp_path / "ours"))
    assert sentence.startswith("warning")
    theirs = TrustConfig(signers=(str(tmp_path / "theirs/signing/key.pub"),))
    trust = trust_here(theirs, tmp_path / "ours")
    assert signer_sentence(DECISION.text(), signature, trust).startswith("signed by")


def test_a_decision_without_a_signature_is_said_to_be_unsigned(tmp_path: Path) -> None:
    assert signer_sentence(DECISION.text(), None, trust_here(TrustConfig(), tmp_path)) == "not signed"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"payload": 7, "annotations": {}}', '{"payload": "", "annotations": 1}']
)
def test_what_is_no_signature_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(StateError, match=r"decision\.sig\.json"):
        signer_sentence(DECISION.text(), text, trust_here(TrustConfig(), tmp_path))
