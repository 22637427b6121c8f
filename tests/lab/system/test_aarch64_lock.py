"""The lock files on a Spark's processor: pip resolves every line to a wheel for aarch64, without building anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[3]
GLIBCS = range(17, 40)  # 2.17 to 2.39: what a wheel may be made for and Ubuntu 24.04, the Spark's system, can load
PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in GLIBCS)]
SOURCE_ONLY = [
    "antlr4-python3-runtime"
]  # of omegaconf: no wheel for any machine; plain Python, so pip makes it anywhere
UNREAD = ["torch"]  # its wheel for aarch64 is some 400 MB: asked for by name instead of read


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def for_aarch64(python: str) -> list[str]:
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    tags = [argument for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for argument in ("--abi", abi)]
    return [*platforms, *tags, "--implementation", "cp", "--python-version", python, "--only-binary=:all:"]


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


@pytest.fixture(scope="module", autouse=True)
def index() -> None:
    """A package index that answers; some machines have none."""
    asked = pip("index", "versions", SOURCE_ONLY[0])
    if asked.returncode != 0:
        pytest.skip(f"lab aarch64 packages: not run: {asked.stderr.strip().splitlines()[-1]}")


def wheels(python: str, lines: dict[str, str], folder: Path) -> dict[str, str]:
    """The wheel that pip takes for each of these pins, by name; nothing is installed."""
    (folder / "lock.txt").write_text("\n".join(f"{name}=={version}" for name, version in lines.items()))
    report = folder / "report.json"
    # Every line is exact and the lock is closed: nothing is left to resolve, and pip would ask this machine's markers.
    dry = ["install", "--dry-run", "-q", "--no-deps", "--target", str(folder / "target"), "--report", str(report)]
    ran = pip(*dry, *for_aarch64(python), "-r", str(folder / "lock.txt"))
    assert ran.returncode == 0, ran.stderr[-3000:]
    urls = [item["download_info"]["url"] for item in json.loads(report.read_text())["install"]]
    assert len(urls) == len(lines)
    return {parse_wheel_filename(url.rsplit("/", 1)[1])[0]: url for url in urls}


def compiled(taken: dict[str, str]) -> dict[str, str]:
    return {name: url for name, url in taken.items() if not url.endswith("-none-any.whl")}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every line's wheel for Python 3.11."""
    locked = pins("requirements.lock") | pins("requirements-test.lock")
    lines = {name: version for name, version in locked.items() if name not in (*SOURCE_ONLY, *UNREAD)}
    return wheels("3.11", lines, tmp_path_factory.mktemp("older"))


@pytest.mark.timeout(1500)
def test_every_line_has_a_wheel_for_aarch64(older: dict[str, str]) -> None:
    assert {"bitsandbytes", "numpy", "pydantic-core", "safetensors", "tokenizers"} <= compiled(older).keys()
    assert [url for url in compiled(older).values() if "aarch64" not in url] == []


@pytest.mark.timeout(1500)
def test_what_is_compiled_has_one_for_the_next_python_too(older: dict[str, str], tmp_path: Path) -> None:
    """A wheel of plain Python is the same for both."""
    locked = pins("requirements.lock") | pins("requirements-test.lock")
    names = {name: locked[name] for name in locked if canonicalize_name(name) in compiled(older)}
    taken = wheels("3.12", names, tmp_path)
    assert (
        len(taken) == len(compiled(older)) and [url for url in compiled(taken).values() if "aarch64" not in url] == []
    )


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("name", UNREAD)
def test_a_wheel_too_large_to_read_here_is_on_the_index(python: str, name: str) -> None:
    asked = pip("index", "versions", name, *for_aarch64(python))
    assert asked.returncode == 0, asked.stderr
    (versions,) = [line for line in asked.stdout.splitlines() if line.startswith("Available versions:")]
    assert pins("requirements.lock")[name] in versions.removeprefix("Available versions:").replace(" ", "").split(",")


@pytest.mark.parametrize("name", SOURCE_ONLY)
def test_what_has_no_wheel_is_plain_python(name: str, tmp_path: Path) -> None:
    made = pip("wheel", "-q", "--no-deps", f"{name}=={pins('requirements.lock')[name]}", "-w", str(tmp_path))
    assert made.returncode == 0, made.stderr[-3000:]
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
