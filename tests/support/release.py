"""A release of Slipway as somebody else unpacks it: no `.git`, a difficult folder, an environment of its own."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import sysconfig
from pathlib import Path

from tests.support.stranger import as_nobody
from tests.support.world import ROOT

LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".slipway", "__pycache__", ".*_cache", "raw", "prepared", "splits")
PATH_LENGTH = 200


def difficult_folder(parent: Path) -> Path:
    """A folder under `parent` whose path has spaces, %, letters outside ASCII and 200 characters or more."""
    folder = parent / "Größe 100%s" / "日本語 (copy)"
    folder = folder / ("x" * max(1, PATH_LENGTH - len(str(folder)) - 9)) / "slipway"
    folder.mkdir(parents=True)
    return folder


def unpack(folder: Path) -> Path:
    """Copy the project's files to `folder`, as a tarball would hold them; returns `folder`."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    return folder


def environment_for(folder: Path, base: Path) -> Path:
    """Make `folder/.venv` over this environment's packages, with `folder/src` first; returns its `bin`.

    `base` is where the interpreter is copied to when nobody but its owner can execute it.
    """
    executable = interpreter(base)
    purelib = folder / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    purelib.mkdir(parents=True)
    (folder / ".venv/bin").mkdir()
    for name in ("python", "python3"):
        (folder / ".venv/bin" / name).symlink_to(executable)
    (folder / ".venv/pyvenv.cfg").write_text(f"home = {executable.parent}\nversion = {sys.version.split()[0]}\n")
    (purelib / "_slipway.pth").write_text("../../../../src\n")  # relative, as `make setup` leaves it
    plugin = "import os; os.environ.setdefault('PREFECT_PLUGINS_ENABLED', 'true')\n"
    (purelib / "_slipway_prefect.pth").write_text(plugin)  # as `make setup` leaves it
    packages = [p for p in map(Path, sys.path) if p.name == "site-packages"]
    lines = "".join(f"import site; site.addsitedir({str(p)!r})\n" for p in packages)
    (purelib / "b_packages.pth").write_text(lines, encoding="utf-8")
    return folder / ".venv/bin"


def interpreter(base: Path) -> Path:
    """This Python, or a copy of it under `base` that every user may execute."""
    real = Path(os.path.realpath(sys.executable))
    if os.geteuid() != 0 or as_nobody(lambda: os.access(real, os.X_OK)) is True:
        return real
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        library,
        base / "lib" / library.name,
        ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "ensurepip"),
    )
    for shared in library.parent.glob("libpython*.so*"):
        shutil.copy(shared, base / "lib")
    (base / "bin").mkdir()
    copy = shutil.copy(real, base / "bin" / real.name)
    Path(copy).chmod(0o755)
    return Path(copy)


def readable_by_all(folder: Path) -> None:
    """Let every user enter this folder and what is below it."""
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())]:
        path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
