"""Signs a bundle twice with one signer: its files for anybody, its manifest digest for targets and registries.

- `model.sig` beside the files: an OpenSSF model signing (OMS) bundle over every file, for `model_signing verify`. The
  files' digests are known from packing, so 42 GB are not read again for it. `.git*` paths, which the library leaves out
  by default, cannot be in a bundle at all (`agent/bundle/layer_tar.py`), and are not left out here.
- a signature over the manifest digest, as cosign stores it: what agents check with `openssl`
  (`agent/bundle/signature.py`).

The key is made at the first release: ECDSA on P-256, mode 600, in `<store.root>/signing/`. Sigstore signs the files
only (its proof needs the network to check); the manifest is signed by the key then too.
"""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from errno import ENOTSUP, EPERM, EXDEV
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.bundle.signature import CERTIFICATE, CHAIN, OMS, SIGNATURE, Trust, fingerprint, payload_of
from slipway.config.trust import SigningConfig, TrustConfig
from slipway.errors import BundleError, ConfigError, ResourceError
from slipway.system.files import fsync_directory
from slipway.system.installed import require
from slipway.system.temporary import temporary_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

FOLDER, KEY, PUBLIC = "signing", "key.pem", "key.pub"
_CURVE = "secp256r1"


@dataclass(frozen=True)
class Signer:
    """Who signs. `key`: file of the private key; `public`: PEM; `config`: what else the signature holds."""

    key: Path
    public: str
    config: SigningConfig

    @property
    def fingerprint(self) -> str:
        """sha256 of the public key's DER, hex."""
        return fingerprint(self.public)

    def sign_digest(self, digest: str, name: str = "") -> tuple[bytes, dict[str, str]]:
        """The payload for a manifest digest (hex) and the annotations of its layer: signature, certificate, chain."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        payload = payload_of(digest, name)
        der = _load(self.key).sign(payload, ECDSA(SHA256()))
        annotations = {SIGNATURE: base64.b64encode(der).decode()}
        if self.config.certificate:
            annotations[CERTIFICATE] = _text(Path(self.config.certificate))
            annotations[CHAIN] = "".join(_text(Path(file)) for file in self.config.chain)
        return payload, annotations

    def sign_files(self, name: str, digests: Mapping[str, str]) -> bytes:
        """The OMS signature over files by their path and sha256 (hex): the content of `model.sig`. `name`: of the
        model, for a person. Raises ResourceError when Sigstore cannot be reached."""
        from model_signing import signing

        config = signing.Config().set_hashing_config(KnownDigests(name, digests))
        try:
            with temporary_folder("slipway-sign") as folder:
                self._configured(config).sign(folder, folder / OMS)
                return (folder / OMS).read_bytes()
        except (OSError, ValueError, RuntimeError) as err:
            expected = f"a signature by {self.config.signer}"
            raise ResourceError("signature of the files", str(err)[:500], expected, "see deploy.signing") from err

    def _configured(self, config: Any) -> Any:
        if self.config.signer == "sigstore":
            return config.use_sigstore_signer(use_ambient_credentials=True)
        if self.config.certificate:
            chain = self.config.chain or (self.config.certificate,)  # the library cannot read a chain of none
            return config.use_certificate_signer(
                private_key=self.key, signing_certificate=self.config.certificate, certificate_chain=chain
            )
        return config.use_elliptic_key_signer(private_key=self.key)


def signer_for(config: SigningConfig, store_root: Path) -> Signer:
    """The signer of a config; its key is made when there is none. Raises ResourceError without the packages of signing
    and for a key that others can read, ConfigError for a key of another kind and a certificate of another key."""
    require("model_signing")
    folder = store_root.expanduser() / FOLDER
    key = Path(config.key).expanduser() if config.key else folder / KEY
    if config.key is None and not key.exists():
        _create(folder)
    public = _public(_load(key))
    if config.certificate and _certified_key(Path(config.certificate)) != public:
        step = "give the key that it was issued for"
        raise ConfigError("deploy.signing.certificate", config.certificate, f"a certificate of the key {key}", step)
    return Signer(key, public, config)


def installed_signer(config: SigningConfig, store_root: Path) -> Signer | None:
    """`signer_for`; None where the packages of signing are not installed."""
    return signer_for(config, store_root) if find_spec("model_signing") else None


def trust_of(config: TrustConfig, own: Signer | None) -> Trust:
    """The trust of a target by config: its keys and roots, and this store's own signer. Raises ConfigError for a file
    that is no PEM."""
    keys = [*([own.public] if own else []), *(_pem(file, "signers") for file in config.signers)]
    return Trust(config.policy, tuple(dict.fromkeys(keys)), tuple(_pem(file, "roots") for file in config.roots))


class KnownDigests:
    """What `model_signing` asks of its hashing while it signs and verifies: the manifest of a tree, here from known
    digests."""

    def __init__(self, name: str, digests: Mapping[str, str]) -> None:
        """`name`: of the model, for a person; `digests`: sha256 (hex) of each file by its path."""
        self._name, self._digests = name, digests

    def add_ignored_paths(self, *, model_path: Path, paths: object) -> None:
        """The signature's own file is not among the digests."""

    def hash(self, model_path: Path, *, files_to_hash: object = None) -> Any:  # noqa: ARG002 (as the library calls it)
        """The manifest of the files, `model.sig` left out."""
        from model_signing import manifest
        from model_signing._hashing.hashing import Digest

        arguments = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [OMS]}
        kind = manifest.SerializationType.from_args(arguments)
        items = [kind.new_item(name, Digest("sha256", bytes.fromhex(hex_))) for name, hex_ in self._digests.items()]
        return manifest.Manifest(self._name, items, kind)


def _create(folder: Path) -> None:
    """Make a key, its private half readable by its owner only from the first byte; of two processes one wins."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    partial = folder / f".{KEY}.{os.getpid()}.{threading.get_ident()}"
    partial.unlink(missing_ok=True)
    try:
        _write_new(partial, data)
        try:
            os.link(partial, folder / KEY)  # never replaces: the first one wins
        except FileExistsError:
            return
        except OSError as err:
            if err.errno not in (EXDEV, EPERM, ENOTSUP):
                raise
            _write_new(folder / KEY, data)  # a file system without links
        (folder / PUBLIC).write_text(_public(key), encoding="ascii")
    finally:
        partial.unlink(missing_ok=True)
    fsync_directory(folder)


def _write_new(path: Path, data: bytes) -> None:
    """A file that was not there, readable by its owner only, on the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 (a descriptor, not a path)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _load(file: Path) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        status, data = file.stat(), file.read_bytes()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
            value = f"{file} belongs to user {status.st_uid} and has mode {mode:o}"
            step = f"make another key, or `chmod 600 {file}` if nobody else has read it"
            raise ResourceError("signing key", value, f"user {os.geteuid()} and mode 600", step)
        key = load_pem_private_key(data, None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as err:
        value = (err.strerror if isinstance(err, OSError) else None) or str(err)
        raise ConfigError(
            f"signing key {file}", value[:200], "a private key as PEM, without a password", _KEYS
        ) from err
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != _CURVE:
        raise ConfigError(f"signing key {file}", type(key).__name__, "an ECDSA key on P-256", _KEYS)
    return key


_KEYS = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, or leave deploy.signing.key out"


def _public(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")


def _certified_key(file: Path) -> str:
    """The public key in a certificate, PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509 import load_pem_x509_certificate

    try:
        key = load_pem_x509_certificate(_text(file).encode()).public_key()
    except ValueError as err:
        raise ConfigError(f"certificate {file}", str(err)[:200], "an X.509 certificate as PEM", _KEYS) from err
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode("ascii")


def _pem(file: str, key: str) -> str:
    text = _text(Path(file).expanduser())
    try:
        fingerprint(text)
    except BundleError as err:
        raise ConfigError(f"deploy.trust.{key}", file, "a PEM file", err.next_step) from err
    return text


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as err:
        raise ConfigError(f"file {file}", str(err)[:200], "a readable PEM file", "mend its path") from err
