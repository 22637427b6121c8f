"""Small files of a model directory: which are copied, and which directories are no model, by name."""

import json
from pathlib import Path

import pytest

from slipway.errors import CheckpointError
from slipway.weights.model_files import TOKENIZER_FILES, copy_small_files, require_model
from tests.support.pico import pico_model


@pytest.fixture
def model(tmp_path):
    return pico_model(tmp_path / "model", shards=2, layers=1)


def test_tokenizer_and_configs_are_copied_and_nothing_else(tmp_path, model):
    out = tmp_path / "out"
    out.mkdir()
    (model / "README.md").write_text("not copied")
    copy_small_files(model, out)
    assert {file.name for file in out.iterdir()} == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (model / name).read_bytes()


def test_every_tokenizer_file_there_is_is_copied(tmp_path, model):
    for name in TOKENIZER_FILES:
        (model / name).write_bytes(name.encode())
    out = tmp_path / "out"
    out.mkdir()
    copy_small_files(model, out)
    assert {name: (out / name).read_bytes() for name in TOKENIZER_FILES} == {
        name: name.encode() for name in TOKENIZER_FILES
    }


@pytest.mark.parametrize("keys", [{"torch_dtype": "float32"}, {"dtype": "float16"}, {}])
def test_the_config_says_bf16_under_one_key(tmp_path, model, keys):
    config = json.loads((model / "config.json").read_text())
    del config["dtype"]
    (model / "config.json").write_text(json.dumps(config | keys))
    out = tmp_path / "out"
    out.mkdir()
    copy_small_files(model, out)
    assert json.loads((out / "config.json").read_text()) == config | {"dtype": "bfloat16"}


def test_a_model_is_taken_and_also_one_with_another_tokenizer(model):
    require_model(model)
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    require_model(model)


def test_a_single_file_will_do(tmp_path):
    require_model(pico_model(tmp_path / "single", layers=1))


def test_without_a_tokenizer_only_when_none_is_asked_for(model):
    (model / "tokenizer.json").unlink()
    require_model(model, tokenizer=False)
    with pytest.raises(CheckpointError, match=rf"model directory {model}: no tokenizer; expected tokenizer\.json or"):
        require_model(model)


REFUSED = {
    "a file": (lambda d: d / "config.json", r"model\.directory: .*config\.json does not exist; expected a directory"),
    "missing": (lambda d: d / "none", r"model\.directory: .*/none does not exist; expected a directory"),
    "no config": (lambda d: (d / "config.json").unlink(), "no config.json; expected a Hugging Face model"),
    "no weights": (
        lambda d: [p.unlink() for p in d.glob("model*")] and None,
        r"no safetensors; expected model\.safetensors or model\.safetensors\.index\.json",
    ),
    "config not JSON": (lambda d: put(d, "{"), r"config .*config\.json.*expected a readable file of JSON"),
    "config a list": (lambda d: put(d, "[]"), r"config .*config\.json: list; expected a mapping"),
}


def put(directory, text):
    (directory / "config.json").write_text(text)


@pytest.mark.parametrize("damage, message", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_model_is_refused_by_name(model, damage, message):
    place = damage(model)
    with pytest.raises(CheckpointError, match=message):
        require_model(place if isinstance(place, Path) else model)
