"""A certificate authority as the openssl program makes one: root, with `chained` one in between, and a signer."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
LEAF = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n"


@dataclass(frozen=True)
class Pki:
    """Files: the signer's private key and certificate, certificates in between, the root."""

    key: str
    certificate: str
    chain: tuple[str, ...]
    root: str


def make_pki(folder: Path, *, chained: bool, usage: str = "codeSigning") -> Pki:
    """Make one in `folder`; `usage`: what its signer's certificate is for, `serverAuth` for a server's."""
    folder.mkdir(parents=True, exist_ok=True)
    _request(folder, "root")
    _openssl(folder, "x509 -req -in root.csr -signkey root.pem -days 2 -extfile ca.ext -out root.crt")
    issuer = "root"
    if chained:
        _request(folder, "middle")
        _issue(folder, "middle", "root", "ca.ext")
        issuer = "middle"
    _request(folder, "leaf")
    (folder / "leaf.ext").write_text(LEAF.replace("codeSigning", usage))
    _issue(folder, "leaf", issuer, "leaf.ext")
    middle = (str(folder / "middle.crt"),) if chained else ()
    return Pki(str(folder / "leaf.pem"), str(folder / "leaf.crt"), middle, str(folder / "root.crt"))


def _request(folder: Path, name: str) -> None:
    (folder / "ca.ext").write_text(CA)
    (folder / "leaf.ext").write_text(LEAF)
    _openssl(folder, f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.pem")
    (folder / f"{name}.pem").chmod(0o600)
    _openssl(folder, f"req -new -key {name}.pem -subj /CN={name} -out {name}.csr")


def _issue(folder: Path, name: str, issuer: str, extensions: str) -> None:
    ca = f"-CA {issuer}.crt -CAkey {issuer}.pem -CAcreateserial"
    _openssl(folder, f"x509 -req -in {name}.csr {ca} -days 2 -extfile {extensions} -out {name}.crt")


def _openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
