"""`slipway verify`: is a release what was signed, for whoever has its files and the signer's public key; and is what a
target serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf

if TYPE_CHECKING:
    from slipway.deployment.bundle.verification import Verified


def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="An OCI layout, a release's folder on a target, a release's files; or a target, a row of conf/deploy.",
            show_default=False,
        ),
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
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Config override, of a target.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Check every byte of a release against its manifest and its signatures; nothing is written, no store is needed. Of
    a target what it serves, by this store's signer.

    Exit code 2 names the first file that was changed, added, removed, renamed or linked, and a signer nobody trusts.
    """
    from slipway.config.trust import TrustConfig
    from slipway.deployment.bundle.signing import trust_of
    from slipway.deployment.bundle.verification import verify as verify_release

    if not path.exists() and (conf / "deploy" / f"{path}.yaml").is_file():
        from slipway.ops.verify_target import verify_target

        _show([verify_target(str(path), conf, settings or [])], as_json)
        return
    files = {"signers": tuple(map(str, key or ())), "roots": tuple(map(str, root or ()))}
    chosen = policy or ("enforce" if key or root else "warn")
    _show(verify_release(path, trust_of(TrustConfig(policy=chosen, **files), None)), as_json)


def _show(releases: list[Verified], as_json: bool) -> None:
    if as_json:
        tables.show_json({"verified": [one.to_json() for one in releases]})
        return
    for one in releases:
        rows = [("digest", f"sha256:{one.digest}")] if one.digest else []
        rows += [("architecture", one.architecture)] if one.architecture else []
        rows += [("files", f"{one.files}, {one.bytes:,} bytes"), ("parts", tables.counted(one.parts))]
        rows += [("signature", sentence) for sentence in one.signed]
        tables.show_rows(f"{one.kind} {one.path}: {one.name}, verified in {one.seconds:.1f} s", rows)
