"""Documents: read, normalized, and everything that is wrong said at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.errors import DataError
from slipway.rag.documents import decode, normalized, read_documents, read_lines, refuse


def test_a_folder_of_files_is_read_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.md").write_bytes("\ufeffcafe\u0301\r\nb\rc".encode())
    (tmp_path / "b.png").write_bytes(b"\0\1")
    (one,) = read_documents(tmp_path)
    assert (one.id, one.text) == ("sub/a.md", "café\nb\nc")


def test_documents_jsonl_goes_before_files(tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text(json.dumps({"id": "x", "text": "words"}) + "\n\n")
    (tmp_path / "other.txt").write_text("not this")
    assert [one.id for one in read_documents(tmp_path)] == ["x"]


def test_every_bad_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text\0more")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt").write_text(" \n ")
    (tmp_path / "d.txt").write_text("good")
    with pytest.raises(DataError) as caught:
        read_documents(tmp_path)
    text = str(caught.value)
    assert "3 problem(s)" in text
    assert "a.txt: binary" in text and "b.txt: not UTF-8: byte 0xe9 at 3" in text and "c.txt: empty" in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"id": 3, "text": "a"}', "expected `id` and `text`"),
        ('{"id": "a"}', "expected `id` and `text`"),
        ('{"id": "a", "text": " "}', "document a is empty"),
        ('{"id": "a", "text": "x\\u0000"}', "document a is binary"),
        ('{"id": "a", "text": "x\\ud800"}', "document a is no Unicode text: half a character pair, U\\+D800"),
    ],
)
def test_a_line_that_is_no_document_is_named_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "documents.jsonl").write_text('{"id": "ok", "text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=rf"documents\.jsonl:2: {words}"):
        read_documents(tmp_path)


def test_ids_that_repeat_and_folders_without_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "x"}\n' * 2)
    with pytest.raises(DataError, match="id 'a' is there 2 times"):
        read_documents(tmp_path)
    (tmp_path / "documents.jsonl").unlink()
    with pytest.raises(DataError, match="holds no documents"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match="dvc repro faq"):
        read_documents(tmp_path / "absent")


def test_the_list_of_problems_is_bounded() -> None:
    refuse([], "documents")
    with pytest.raises(DataError, match="and 5 more"):
        refuse([f"p{n}" for n in range(25)], "documents")


def test_pieces(tmp_path: Path) -> None:
    assert normalized("a\r\nb") == "a\nb"
    assert decode(b"abc") == "abc"
    (tmp_path / "x.jsonl").write_bytes(b"\xff")
    assert read_lines(tmp_path / "x.jsonl")[1][0].endswith("not UTF-8: byte 0xff at 0")
