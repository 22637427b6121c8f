"""Damaged and strange files through `slipway merge` and `slipway quantize`: one short error, exit code 2, nothing
written.

Run in this process, through the command line's own entry, so that what would be a traceback is one here too.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.cli import app
from tests.support.pico import pico_adapter, pico_model

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    pico_model(root / "model", shards=2, layers=1)
    pico_model(root / "single", layers=1)
    pico_adapter(root / "adapter", layers=[0])
    return root


def header(file: Path, change) -> None:
    """Rewrite the header of a safetensors file as `change` has it."""
    raw = file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    new = change(json.loads(raw[8 : 8 + size]))
    new = new if isinstance(new, bytes) else json.dumps(new).encode()
    file.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])


def first(document: dict, **keys):
    name = next(name for name in document if name != "__metadata__")
    return {**document, name: {**document[name], **keys}}


def put(file: Path, text: str) -> None:
    file.write_text(text)


def keys(file: Path, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def weight_map(root: Path, shard) -> None:
    index = json.loads((root / "model" / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = shard
    put(root / "model" / INDEX, json.dumps(index))


def without_elements(root: Path) -> None:
    file = root / "single" / SINGLE
    save_file({**load_file(file), "model.norm.weight": torch.ones(0)}, file, {"format": "pt"})


def instead(file: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    file.unlink()
    if kind == "directory":
        file.mkdir()
    elif kind == "dangling":
        file.symlink_to("gone")
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "pipe":
        os.mkfifo(file)


MODELS = {
    "a tensor without elements": ("single", without_elements),
    "an index entry outside the folder": ("model", lambda r: weight_map(r, "../single/model.safetensors")),
    "an index entry that is the folder": ("model", lambda r: weight_map(r, "..")),
    "an index entry that is no name": ("model", lambda r: weight_map(r, 3)),
    "an index of null": ("model", lambda r: put(r / "model" / INDEX, '{"weight_map": null}')),
    "a header with floats": ("single", lambda r: header(r / "single" / SINGLE, lambda d: first(d, shape=[64.0]))),
    "a header nested deep": (
        "single",
        lambda r: header(r / "single" / SINGLE, lambda _: b'{"a":' * 99_999 + b"1" + b"}" * 99_999),
    ),
    "overlapping tensors": (
        "single",
        lambda r: header(r / "single" / SINGLE, lambda d: d | {"again": d["model.norm.weight"]}),
    ),
    "offsets behind the file": (
        "single",
        lambda r: header(r / "single" / SINGLE, lambda d: first(d, data_offsets=[1 << 40, (1 << 40) + 8])),
    ),
    "a huge dtype": ("single", lambda r: header(r / "single" / SINGLE, lambda d: first(d, dtype="x" * 10**6))),
    "a config of null": ("single", lambda r: put(r / "single/config.json", "null")),
    "a config with a list for a size": ("single", lambda r: keys(r / "single/config.json", hidden_size=[64])),
    "a config with numbers for classes": ("single", lambda r: keys(r / "single/config.json", architectures=[3])),
    "a config with a text for its text part": ("single", lambda r: keys(r / "single/config.json", text_config="x")),
    "a config nested deep": ("single", lambda r: put(r / "single/config.json", "[" * 100_000)),
    **{
        f"{kind} in place of {name}": ("single", lambda r, name=name, kind=kind: instead(r / "single" / name, kind))
        for name in (SINGLE, "config.json", "tokenizer.json")
        for kind in ("directory", "dangling", "loop", "pipe")
    },
}
ADAPTERS = {
    "an adapter config of null": lambda a: put(a / "adapter_config.json", "null"),
    "ranks that are texts": lambda a: keys(a / "adapter_config.json", r="4"),
    "targets that are numbers": lambda a: keys(a / "adapter_config.json", target_modules=[1]),
    "a pattern that is no expression": lambda a: keys(a / "adapter_config.json", rank_pattern={"(": 2}),
    "an adapter config of a million characters": lambda a: keys(a / "adapter_config.json", bias="x" * 10**6),
    "adapter tensors with floats": lambda a: header(a / "adapter_model.safetensors", lambda d: first(d, shape=[4.0])),
    "a directory for the adapter's file": lambda a: instead(a / "adapter_model.safetensors", "directory"),
    "a pipe for the adapter's file": lambda a: instead(a / "adapter_model.safetensors", "pipe"),
    "a link to nothing for the adapter's config": lambda a: instead(a / "adapter_config.json", "dangling"),
    "a loop for the adapter's config": lambda a: instead(a / "adapter_config.json", "loop"),
    "a tokenizer that is no JSON": lambda a: put(a / "tokenizer.json", "{"),
    "a tokenizer that is a directory": lambda a: (a / "tokenizer.json").mkdir(),
}


@pytest.fixture
def slipway(monkeypatch, capsys):
    def run(*words):
        """(exit code, everything printed) of a command."""
        monkeypatch.setattr(sys, "argv", ["slipway", *map(str, words)])
        try:
            code = app._run()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def refused(result, out: Path) -> None:
    code, text = result
    assert code == 2 and "Traceback" not in text and 10 < len(text) < 12_000, text[:3000]
    assert not out.exists()


@pytest.mark.parametrize("name, damage", MODELS.values(), ids=MODELS.keys())
def test_a_damaged_model_is_one_error(tmp_path, folders, slipway, name, damage):
    root, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(folders, root)
    damage(root)
    quick = ("--set", "device=cpu", "--set", "compile=off")
    refused(slipway("merge", root / name, root / "adapter", "--out", out, *quick), out)
    refused(slipway("quantize", root / name, "--out", out, "--format", "nvfp4a16", *quick), out)


@pytest.mark.parametrize("damage", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_a_damaged_adapter_is_one_error(tmp_path, folders, slipway, damage):
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    shutil.copytree(folders / "adapter", adapter)
    damage(adapter)
    refused(slipway("merge", folders / "single", adapter, "--out", out, "--set", "device=cpu"), out)


def test_an_out_that_cannot_be_written_is_one_error(tmp_path, folders, slipway):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for out in (tmp_path / "file/out", tmp_path / "loop/out", tmp_path / ("n" * 300), Path("/proc/out")):
        words = ("merge", folders / "single", folders / "adapter", "--out", out, "--set", "device=cpu")
        code, text = slipway(*words)
        assert code == 2 and "Traceback" not in text and "--out" in text, (out, text)


@pytest.mark.parametrize("make", [lambda f: None, lambda f: f.mkdir(), lambda f: f.symlink_to(f.name)])
def test_calibration_rows_that_are_not_there_are_one_error(tmp_path, folders, slipway, make):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    make(rows)
    words = ("quantize", folders / "single", "--format", "nvfp4", "--calibration", rows, "--out", out)
    refused(slipway(*words, "--set", "device=cpu", "--set", "compile=off"), out)
    refused(slipway(*words[:4], "--out", out, "--set", "device=cpu", "--set", "compile=off"), out)
