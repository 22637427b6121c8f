"""`slipway verify`: is a release what was signed, for whoever has its files and the signer's public key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson


def verify(
    path: Annotated[
        Path,
        typer.Argument(help="An OCI layout, a release's folder on a target, or a release's files.", show_default=False),
    ],
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key of a signer, PEM; repeatable.", show_default=False)
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option("--root", help="Certificate of an authority, PEM; repeatable.", show_default=False),
    ] = None,
    policy: Annotated[
        Literal["off", "warn", "enforce"] | None,
        typer.Option(help="What a missing or another signer leads to; default: enforce with a key, else warn."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of a release against its manifest and its signatures; nothing is written, no store is needed.

    Exit code 2 names the first file that was changed, added, removed, renamed or linked, and a signer nobody trusts.
    """
    from slipway.config.trust import TrustConfig
    from slipway.deployment.bundle.signing import trust_of
    from slipway.deployment.bundle.verification import verify as verify_release

    files = {"signers": tuple(map(str, key or ())), "roots": tuple(map(str, root or ()))}
    chosen = policy or ("enforce" if key or root else "warn")
    releases = verify_release(path, trust_of(TrustConfig(policy=chosen, **files), None))
    if as_json:
        tables.show_json({"verified": [one.to_json() for one in releases]})
        return
    for one in releases:
        rows = [("digest", f"sha256:{one.digest}")] if one.digest else []
        rows += [("architecture", one.architecture)] if one.architecture else []
        rows += [("files", f"{one.files}, {one.bytes:,} bytes"), ("parts", tables.counted(one.parts))]
        rows += [("signature", sentence) for sentence in one.signed]
        tables.show_rows(f"{one.kind} {one.path}: {one.name}, verified in {one.seconds:.1f} s", rows)
