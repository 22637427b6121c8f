"""Sections `deploy.signing` and `deploy.trust`: what contradicts itself is refused while it is parsed."""

from __future__ import annotations

import pytest

from slipway.config.load import load_config
from slipway.errors import ConfigError


def test_defaults_sign_with_a_key_and_warn() -> None:
    deploy = load_config().deploy
    assert (deploy.signing.signer, deploy.trust.policy) == ("key", "warn")


@pytest.mark.parametrize(
    "words",
    [
        ["deploy.signing.signer=certificate"],
        ["deploy.signing.certificate=c.pem"],
        ["deploy.signing.signer=certificate", "deploy.signing.certificate=c.pem"],
        ["deploy.signing.signer=pgp"],
        ["deploy.trust.policy=maybe"],
        ["deploy.trust.signers=[/]"],
    ],
)
def test_contradictions_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"deploy\.(signing|trust)"):
        load_config(overrides=words)


def test_keys_and_roots_are_lists_of_files() -> None:
    words = ["deploy.trust.policy=enforce", "deploy.trust.signers=[a.pem,b.pem]", "deploy.trust.roots=[c.pem]"]
    trust = load_config(overrides=words).deploy.trust
    assert (trust.signers, trust.roots) == (("a.pem", "b.pem"), ("c.pem",))
