"""Headers and indices: what a damaged or hostile file says is one error of bounded size that names file and tensor."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import CheckpointError
from slipway.weights.shard_header import DTYPES, Entry, read_header, read_index


def written(file, header, data=b"\0" * 64):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return file


def entry(dtype="F32", shape=(4, 4), offsets=(0, 64)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_entries_say_where_the_bytes_are(tmp_path):
    tensors = {"a": torch.ones(2, 3), "b": torch.zeros(5, dtype=torch.int64)}
    save_file(tensors, tmp_path / "x", {"format": "pt"})
    entries, metadata = read_header(tmp_path / "x")
    raw = (tmp_path / "x").read_bytes()
    assert metadata == {"format": "pt"} and set(entries) == {"a", "b"}
    for name, tensor in tensors.items():
        place = entries[name]
        assert (place.dtype, place.shape, place.nbytes) == (tensor.dtype, tuple(tensor.shape), tensor.nbytes)
        assert raw[place.offset : place.offset + place.nbytes] == tensor.numpy().tobytes()


def test_every_dtype_has_its_size():
    assert {name: Entry(dtype, (3,), 0).nbytes for name, dtype in DTYPES.items()} == {
        **dict.fromkeys(("F64", "I64"), 24),
        **dict.fromkeys(("F32", "I32"), 12),
        **dict.fromkeys(("F16", "BF16", "I16"), 6),
        **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 3),
    }


HEADERS = {
    "a float in the shape": ({"a": entry(shape=(4.0, 4))}, r"tensor a in .*header entry"),
    "true in the shape": ({"a": entry(shape=(True, 16))}, r"tensor a in .*header entry"),
    "float offsets": ({"a": entry(offsets=(0.0, 64.0))}, r"tensor a in .*header entry"),
    "NaN": (b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 64]}}', r"tensor a in .*header entry"),
    "a negative size": ({"a": entry(shape=(-4, -4))}, r"tensor a in .*header entry"),
    "a negative offset": ({"a": entry(offsets=(-64, 0))}, r"tensor a in .*header entry"),
    "three offsets": ({"a": entry(offsets=(0, 32, 64))}, r"tensor a in .*header entry"),
    "an unknown dtype": ({"a": entry(dtype="F4")}, r"tensor a in .*header entry"),
    "a dtype that is a list": ({"a": {**entry(), "dtype": ["F32"]}}, r"tensor a in .*header entry"),
    "a shape that is null": ({"a": {**entry(), "shape": None}}, r"tensor a in .*header entry"),
    "other bytes than the shape": ({"a": entry(shape=(4, 5))}, r"bytes 0 to 64; expected 80 bytes for F32 \[4, 5\]"),
    "an enormous shape": ({"a": entry(shape=(10**300, 10**300))}, r"tensor a in .*bytes 0 to 64"),
    "overlapping": ({"a": entry(), "b": entry()}, r"tensor b in .*starts at byte \d+; expected byte"),
    "a gap": ({"a": entry(shape=(8,), offsets=(32, 64))}, r"tensor a in .*starts at byte"),
    "out of the file": ({"a": entry(shape=(8, 4), offsets=(0, 128))}, r"\d+ bytes; expected \d+ bytes, by its header"),
    "bytes left over": ({"a": entry(shape=(8,), offsets=(0, 32))}, r"\d+ bytes; expected \d+ bytes, by its header"),
    "nested deep": (b'{"a":' + b"[" * 200_000, r"header of shard .*nested too deep|header of shard .*JSON"),
    "nested deep and whole": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, r"header of shard .*nested too deep"),
    "a list": ([], r"not a mapping of tensors"),
    "metadata that is null": ({"__metadata__": None, "a": entry()}, r"not a mapping of tensors"),
    "no JSON": (b"\xff\xfe", r"header of shard .*JSON"),
    "a huge entry": ({"a": {**entry(), "dtype": "x" * 10**6}}, r"characters left out"),
}


@pytest.mark.parametrize("header, message", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_is_none_is_one_short_error(tmp_path, header, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(written(tmp_path / "x.safetensors", header))
    assert "x.safetensors" in str(caught.value) and len(str(caught.value)) < 9000


def test_metadata_of_other_types_than_text_is_left_out(tmp_path):
    _, metadata = read_header(written(tmp_path / "x", {"__metadata__": {"format": "pt", "n": 1}, "a": entry()}))
    assert metadata == {"format": "pt"}


def test_a_file_that_is_none_is_named_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").write_bytes(b"")
    for name, value in {
        "pipe": "no regular file",
        "folder": "a directory",
        "dangling": "missing: a symlink to .*gone",
        "absent": "missing",
        "a\0b": "null",
        "n" * 300: "name too long",
        "empty": "header of 0 bytes in a file of 0",
    }.items():
        with pytest.raises(CheckpointError, match=f"(?i){value}"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("shard", ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\0b", 3, None, ["a"]])
def test_an_index_entry_that_is_no_name_in_the_folder_is_refused(tmp_path, shard):
    (tmp_path / "index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(CheckpointError, match=r"tensor w lies in .*; expected the name of a file in the same folder"):
        read_index(tmp_path / "index.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"weight_map": []}', '{"weight_map": null}', "{}"])
def test_an_index_that_is_none_is_named(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index.*index\.json"):
        read_index(tmp_path / "index.json")
