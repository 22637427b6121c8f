"""Sections `deploy.signing` and `deploy.trust`: who signs releases, and whose releases a target takes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import InputFile, Section


class SigningConfig(Section):
    """The signer of releases."""

    signer: Literal["key", "certificate", "sigstore"] = Field(
        "key",
        description="`key`: a P-256 key of this store; `certificate`: a key with a certificate of your PKI; "
        "`sigstore`: the files' signature by Sigstore's public instance, the manifest's by the key.",
    )
    key: InputFile | None = Field(
        None, description="Private key, PEM, mode 600; null: <store.root>/signing/key.pem, made at the first release."
    )
    certificate: InputFile | None = Field(None, description="Certificate of the key, PEM.")
    chain: tuple[InputFile, ...] = Field((), description="Certificates between it and the root, PEM.")

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.signer == "certificate") != (self.certificate is not None):
            raise ValueError("deploy.signing.certificate goes with signer=certificate; give both or neither")
        if self.signer == "certificate" and self.key is None:
            raise ValueError("deploy.signing.key is the key of the certificate; give it")
        return self


class TrustConfig(Section):
    """Whose releases a target takes."""

    policy: Literal["off", "warn", "enforce"] = Field(
        "warn", description="What an unsigned release, or one by another signer, leads to: nothing, a note, a refusal."
    )
    signers: tuple[InputFile, ...] = Field(
        (), description="Public keys, PEM, that are trusted beside this store's own signer."
    )
    roots: tuple[InputFile, ...] = Field((), description="Certificates of authorities, PEM, whose signers are trusted.")
