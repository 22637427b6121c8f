"""One pinned package, downloaded by pip from a folder that serves as its index, checked and kept."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.system.files import sha256_file
from slipway.system.packages import download
from slipway.system.progress import Progress

SETUP = (
    "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n[project]\nname = "
    "'tiny'\nversion = '1.0'\n"
)
BACKEND = (
    "def prepare_metadata_for_build_wheel(directory, config=None):\n    import pathlib\n    folder = "
    "pathlib.Path(directory) / 'tiny-1.0.dist-info'\n    folder.mkdir()\n    (folder / "
    "'METADATA').write_text('Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n    return folder.name\n"
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip looks into instead of a registry; it holds tiny 1.0."""
    folder = tmp_path / "index"
    folder.mkdir()
    with tarfile.open(folder / "tiny-1.0.tar.gz", "w:gz") as tar:
        for name, text in {
            "pyproject.toml": SETUP,
            "backend.py": BACKEND,
            "PKG-INFO": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        }.items():
            info = tarfile.TarInfo(f"tiny-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's odd spelling of: no isolation, nothing to fetch
    return folder


def get(cache: Path, sha256: str, version: str = "1.0") -> Path:
    return download("tiny", version, sha256, source=True, cache=cache, progress=Progress())


def test_a_package_is_downloaded_once(index: Path, tmp_path: Path) -> None:
    digest = sha256_file(index / "tiny-1.0.tar.gz")
    file = get(tmp_path / "cache", digest)
    assert file.parent == tmp_path / "cache" / "packages" / f"tiny-1.0-{digest[:12]}"
    assert sha256_file(file) == digest
    (index / "tiny-1.0.tar.gz").unlink()
    assert get(tmp_path / "cache", digest) == file


def test_a_damaged_copy_is_downloaded_again(index: Path, tmp_path: Path) -> None:
    digest = sha256_file(index / "tiny-1.0.tar.gz")
    file = get(tmp_path / "cache", digest)
    file.write_bytes(b"rot")
    assert sha256_file(get(tmp_path / "cache", digest)) == digest


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=rf"package tiny 1.0: sha256 {sha256_file(index / 'tiny-1.0.tar.gz')}; expected 00"
    ):
        get(tmp_path / "cache", "0" * 64)
    assert list((tmp_path / "cache" / "packages").iterdir()) == []


def test_a_version_that_is_not_there_shows_pips_words(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"package tiny 2.0: .*No matching distribution found for tiny==2.0"):
        get(tmp_path / "cache", "0" * 64, "2.0")
