"""C++ is compiled once for a processor and a compiler, kept whole or not at all, done without where it cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from slipway.system import native_code
from slipway.system.native_code import compiler, library

SOURCE = 'extern "C" int twice(int x) { return 2 * x; }\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "arithmetic.cpp"
    file.write_text(SOURCE)
    return file


def kept(source: Path) -> list[Path]:
    return sorted((source.parent / "cache/slipway/native").glob("*"))


def test_it_is_compiled_once_and_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(source)
    assert made is not None and made.twice(21) == 42
    assert [file.suffix for file in kept(source)] == [".so"]
    monkeypatch.setattr(native_code, "_run", lambda *_: pytest.fail("compiled again"))
    native_code._library.cache_clear()
    again = library(source)
    assert again is not None and again.twice(4) == 8


def test_another_source_is_another_library(source: Path) -> None:
    assert library(source) is not None
    source.write_text(SOURCE.replace("2 *", "3 *"))
    native_code._library.cache_clear()
    made = library(source)
    assert made is not None and made.twice(5) == 15 and len(kept(source)) == 2


def test_a_library_that_is_cut_short_is_made_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library(source) is not None
    [whole] = kept(source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(source.parent / "other"))
    cut = source.parent / "other/slipway/native" / whole.name
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole.read_bytes()[:100])
    made = library(source)
    assert made is not None and made.twice(1) == 2 and cut.stat().st_size > 100


def test_source_that_no_compiler_takes_is_no_library(source: Path) -> None:
    source.write_text("int main( {\n")
    assert library(source) is None and kept(source) == []


def test_an_option_that_the_compiler_does_not_know_is_left_out(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_code, "_NATIVE", "-march=no-such-processor")
    made = library(source)
    assert made is not None and made.twice(3) == 6


@pytest.mark.parametrize("cxx", ["/nowhere/g++", "false"])
def test_without_a_compiler_there_is_no_library(source: Path, monkeypatch: pytest.MonkeyPatch, cxx: str) -> None:
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.setattr(native_code.shutil, "which", lambda name: cxx if name == cxx and cxx == "false" else None)
    assert (compiler() is None) == (cxx != "false") and library(source) is None


def test_where_nothing_can_be_kept_it_serves_this_process(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = source.parent / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    made = library(source)
    assert made is not None and made.twice(8) == 16


def test_clang_is_taken_where_gcc_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang++" else None)
    assert compiler() == "/bin/clang++"
    monkeypatch.setenv("CXX", "special")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "special" else None)
    assert compiler() == "/bin/special" and os.environ["CXX"] == "special"
