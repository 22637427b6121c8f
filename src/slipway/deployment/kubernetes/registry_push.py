"""A packed release into a registry, by skopeo: the digest that was signed is the digest there.

Without `--preserve-digests` skopeo compresses layers and the manifest gets another digest, which no signature is over.
The signatures go with the release, under the names that cosign looks for. Who may push is skopeo's business
(`skopeo login REGISTRY`); its credentials are not read here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

from slipway.deployment.bundle.oci_layout import FILES_SIGNATURE, SIGNATURES, attached_ref
from slipway.deployment.bundle.release import PackedRelease
from slipway.errors import BundleError, ResourceError

COPY_S = 6 * 3600.0  # 80 GB over a slow link
Note = Callable[[str], None]


def push(release: PackedRelease, repository: str, *, tls: bool = True, note: Note = lambda _: None) -> str:
    """Copy a release and its signatures into REGISTRY/PATH; the manifest's digest, `sha256:...`. Blobs that are there
    already are not sent again.

    Raises ResourceError without skopeo, or when the registry refuses or is not reached; BundleError when the registry
    holds another digest under the release's name than was signed.
    """
    signatures = [attached_ref(release.bundle.digest, suffix) for suffix in (SIGNATURES, FILES_SIGNATURE)]
    for ref in [release.name, *signatures]:
        note(f"copying {ref} to {repository}")
        options = ["--preserve-digests", f"--dest-tls-verify={str(tls).lower()}"]
        _skopeo("copy", *options, f"oci:{release.layout}:{ref}", f"docker://{repository}:{ref}")
    inspected = _skopeo(
        "inspect", f"--tls-verify={str(tls).lower()}", "--format={{.Digest}}", f"docker://{repository}:{release.name}"
    ).strip()
    if inspected != f"sha256:{release.bundle.digest}":
        raise BundleError(
            f"{repository}:{release.name}",
            f"digest {inspected}",
            f"sha256:{release.bundle.digest}, which was signed",
            "use a registry that stores OCI manifests as they are",
        )
    return inspected


def _skopeo(*arguments: str) -> str:
    if shutil.which("skopeo") is None:
        raise ResourceError("push to a registry", "no program skopeo", "skopeo 1.9 or later", "apt-get install skopeo")
    try:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, errors="replace", timeout=COPY_S)
    except subprocess.TimeoutExpired as err:
        raise ResourceError(
            "push to a registry", f"no end in {COPY_S:.0f} s", "an end", "run again: it goes on"
        ) from err
    if done.returncode:
        message = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        next_step = (
            f"`skopeo {arguments[0]} {' '.join(arguments[1:])}` by hand; `skopeo login` where it asks who you are"
        )
        raise ResourceError("push to a registry", message[0][:1000], "a copy", next_step)
    return done.stdout
