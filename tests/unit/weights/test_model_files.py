"""Small files of a model directory: which are copied, and which directories are no model, by name."""

import json
from pathlib import Path

import pytest

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.model_files import copy_small_files, merged_directory, require_model, small_files
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


KINDS = [
    "tokenizer.model",
    "tokenizer.model.v3",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "qwen.tiktoken",
    "chat_template.json",
    "additional_chat_templates/tools.jinja",
    "additional_chat_templates/rag.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "configuration_own.py",
    "modeling_own.py",
]


def put_file(file, content):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)


def test_every_kind_of_small_file_is_copied_byte_for_byte_and_weights_are_not(tmp_path, model):
    for name in KINDS:
        put_file(model / name, name.encode() + b"\r\n\xff")
    for name in ("pytorch_model.bin", "optimizer.pt", "README.md", "notes.txt"):
        put_file(model / name, b"x")
    out = tmp_path / "out"
    out.mkdir()
    copy_small_files(model, out)
    assert {name: (out / name).read_bytes() for name in KINDS} == {n: n.encode() + b"\r\n\xff" for n in KINDS}
    others = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {*KINDS, *others}


def test_code_is_named_and_never_run(tmp_path, model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "configuration_own.Own"}}))
    (model / "configuration_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit")
    out = tmp_path / "out"
    out.mkdir()
    (note,) = copy_small_files(model, out)
    assert "configuration_own.py; copied, not run" in note and "trust_remote_code" in note
    assert not (tmp_path / "ran").exists()


def write_tokens(folder, *ids, template=None):
    added = [{"id": i, "content": f"<{i}>", "special": True} for i in ids]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    inline = {"chat_template": template} if template else {}
    (folder / "tokenizer_config.json").write_text(json.dumps({"from": "the adapter", **inline}))


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter").mkdir()
    return tmp_path / "adapter"


def merged(model, adapter, **config):
    document = json.loads((model / "config.json").read_text()) | config
    with merged_directory(model, document, adapter) as (directory, notes):
        texts = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    assert not directory.exists()
    return texts, notes


def test_an_adapter_without_small_files_leaves_the_bases(model, adapter):
    (adapter / "README.md").write_text("not copied")
    texts, notes = merged(model, adapter, vocab_size=999)
    assert notes == () and json.loads(texts["config.json"])["vocab_size"] == 999
    assert texts["tokenizer.json"] == (model / "tokenizer.json").read_bytes() and "README.md" not in texts


def test_a_tokenizer_in_the_adapters_folder_takes_the_place_of_every_file_of_the_bases(model, adapter):
    (model / "merges.txt").write_text("of the base")
    write_tokens(adapter, 3, template="{{ 1 }}")
    texts, notes = merged(model, adapter)
    assert texts["tokenizer.json"] == (adapter / "tokenizer.json").read_bytes()
    assert "merges.txt" not in texts and "chat_template.jinja" not in texts
    assert notes == ("from the adapter's folder, in place of the base's: tokenizer.json, tokenizer_config.json",)


def test_a_template_in_the_adapters_folder_is_used_with_the_bases_tokenizer(model, adapter):
    put_file(adapter / "chat_template.jinja", b"{{ 2 }}")
    put_file(adapter / "additional_chat_templates/tools.jinja", b"{{ 3 }}")
    put_file(model / "additional_chat_templates/rag.jinja", b"of the base")
    texts, notes = merged(model, adapter)
    assert texts["chat_template.jinja"] == b"{{ 2 }}" and texts["additional_chat_templates/tools.jinja"] == b"{{ 3 }}"
    assert "additional_chat_templates/rag.jinja" not in texts
    assert texts["tokenizer.json"] == (model / "tokenizer.json").read_bytes() and "chat_template.jinja" in notes[0]


def test_the_bases_template_stays_where_the_adapters_tokenizer_has_none(model, adapter):
    write_tokens(adapter, 3)
    texts, notes = merged(model, adapter)
    assert texts["chat_template.jinja"] == (model / "chat_template.jinja").read_bytes()
    assert notes[1] == "the adapter's tokenizer has no chat template: the base's is used"


@pytest.mark.parametrize(
    "inline, files",
    [
        ("{{ 4 }}", {"chat_template.jinja": b"{{ 4 }}"}),
        (
            [{"name": "default", "template": "{{ 4 }}"}, {"name": "../tools", "template": "{{ 5 }}"}],
            {"chat_template.jinja": b"{{ 4 }}", "additional_chat_templates/tools.jinja": b"{{ 5 }}"},
        ),
    ],
)
def test_a_template_in_the_bases_tokenizer_config_is_not_lost_with_it(model, adapter, inline, files):
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": inline}))
    write_tokens(adapter, 3)
    texts, _ = merged(model, adapter)
    assert {name: text for name, text in texts.items() if name.endswith(".jinja")} == files


def test_a_token_without_a_row_in_the_embedding_is_refused(model, adapter):
    write_tokens(adapter, 3, 383)
    merged(model, adapter)
    write_tokens(adapter, 3, 384)
    with pytest.raises(AdapterError, match=r"tokenizer of adapter .*a token of id 384; expected ids below 384"):
        merged(model, adapter)
    merged(model, adapter, vocab_size=385)


def test_a_small_file_that_cannot_be_read_is_named(tmp_path, model):
    (model / "merges.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"file .*merges\.txt: a link to nothing; expected a readable file"):
        small_files(model)
    (model / "merges.txt").unlink()
    (model / "tokenizer.model").mkdir()
    with pytest.raises(CheckpointError, match=r"file .*tokenizer\.model: no regular file"):
        copy_small_files(model, tmp_path)
    (model / "tokenizer.model").rmdir()
    (model / "generation_config.json").unlink()
    (model / "generation_config.json").symlink_to("/proc/self/mem")  # a regular file whose bytes nobody can read
    with pytest.raises(CheckpointError, match=r"file .*generation_config\.json: Input/output error"):
        copy_small_files(model, tmp_path)


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
