"""The command line of a corpus script, on a wheel that stands in the cache already."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.package_rows import Wheel, chat_row, run, shuffle_key


def cached(folder: Path, content: str) -> Wheel:
    """A wheel with one file in the cache `folder`, where `download` looks for it."""
    file = folder / "words-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("words.txt", content)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    home = folder / "packages" / f"words-1.0-{digest[:12]}"
    home.mkdir(parents=True)
    file.rename(home / file.name)
    return Wheel("words", "1.0", digest)


def rows(archive: zipfile.ZipFile, seed: int) -> Iterator[dict[str, Any]]:
    words = archive.read("words.txt").decode("utf-8").split()
    yield from (
        chat_row(w, "Upper.", w, w.upper(), template=w) for w in sorted(words, key=lambda w: shuffle_key(seed, w))
    )


def test_rows_of_a_wheel_become_chat_jsonl(tmp_path: Path) -> None:
    wheel = cached(tmp_path, "ab żó")
    for seed, name in ((1, "a"), (1, "b")):
        arguments = ["--out", str(tmp_path / "out" / name), "--seed", str(seed), "--cache", str(tmp_path)]
        assert run("", wheel, rows, arguments) == 0
    written = (tmp_path / "out/a").read_bytes()
    assert written == (tmp_path / "out/b").read_bytes()
    parsed = {row["id"]: row for row in map(json.loads, written.decode("utf-8").split("\n")[:-1])}
    assert parsed["żó"] == {
        "id": "żó",
        "messages": [
            {"role": "system", "content": "Upper."},
            {"role": "user", "content": "żó"},
            {"role": "assistant", "content": "ŻÓ"},
        ],
        "template": "żó",
    }


def test_a_wheel_that_cannot_be_had_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel = Wheel("slipway-no-such-package", "1.0", "0" * 64)
    arguments = ["--out", str(tmp_path / "rows"), "--seed", "1", "--cache", str(tmp_path)]
    assert run("", wheel, rows, arguments) != 0
    assert "package slipway-no-such-package 1.0" in capsys.readouterr().err
    assert not (tmp_path / "rows").exists()
