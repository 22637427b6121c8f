"""Files that come out of a package registry: downloaded once by pip, checked against a sha256, kept in the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from slipway.errors import ResourceError
from slipway.system.files import disk_full_is_named, sha256_file
from slipway.system.progress import Progress


def download(package: str, version: str, sha256: str, *, source: bool, cache: Path, progress: Progress) -> Path:
    """The wheel (`source=False`) or source archive of one pinned package, without its dependencies.

    Uses the registry that pip is configured for. Raises ResourceError when it cannot be had or its sha256 differs.
    """
    folder = _folder(package, version, sha256, cache)
    if (there := _only_file(folder)) and sha256_file(there) == sha256:
        return there
    progress.note(f"downloading {package} {version}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with disk_full_is_named(folder), tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        file = _download_by_pip(package, version, "--no-binary" if source else "--only-binary", Path(tmp))
        if (digest := sha256_file(file)) != sha256:
            raise ResourceError(
                f"package {package} {version}",
                f"sha256 {digest}",
                sha256,
                "the registry served another file: check it before changing the pin",
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return Path(shutil.move(file, folder / file.name))


def cached(package: str, version: str, sha256: str, cache: Path) -> Path | None:
    """The file of a package that was downloaded before, its bytes not looked at; None where there is none."""
    return _only_file(_folder(package, version, sha256, cache))


def _folder(package: str, version: str, sha256: str, cache: Path) -> Path:
    return cache / "packages" / f"{package}-{version}-{sha256[:12]}"


def _download_by_pip(package: str, version: str, kind: str, into: Path) -> Path:
    """The one file that pip puts into the folder `into`. Raises ResourceError with pip's last line."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    command = [*pip, kind, package, "-d", str(into), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    file = _only_file(into)
    if done.returncode != 0 or file is None:
        raise ResourceError(
            f"package {package} {version}",
            (done.stderr.strip().splitlines() or ["no output"])[-1],
            "a download by pip",
            "check the network and pip's index, then run again",
        )
    return file


def _only_file(folder: Path) -> Path | None:
    files = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None
