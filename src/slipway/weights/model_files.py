"""The small files of a Hugging Face model directory: everything that whoever loads it needs beside the weights.

Tokenizer, processors, generation defaults, chat templates, and the code of classes that are not in transformers
(`*.py`; copied, never run here). Of an adapter's folder a tokenizer and a template take the place of the base's: they
are what the adapter was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from slipway.errors import AdapterError, CheckpointError, StateError
from slipway.system.files import write_atomic
from slipway.system.json_files import read_json
from slipway.system.temporary import temporary_folder
from slipway.weights.checkpoint_files import weights_file
from slipway.weights.model_config import in_bf16, read_config

# by kind, with the words in which a person is told of them
_VOCABULARY = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.model.v*",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "vocab.bpe",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "sentencepiece.*.model",
    "*.tiktoken",
    "encoder.json",
)
_TOKENIZER = (*_VOCABULARY, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_MORE_TEMPLATES = "additional_chat_templates"
_TEMPLATES = ("chat_template.jinja", "chat_template.json", f"{_MORE_TEMPLATES}/*.jinja")
_PROCESSORS = (
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "feature_extractor_config.json",
)
_CODE = ("*.py",)
_ALL = (*_TOKENIZER, *_TEMPLATES, *_PROCESSORS, "generation_config.json", *_CODE)
_COPY_AGAIN = "copy the file again, or mend its permissions"


@dataclass(frozen=True)
class SmallFiles:
    """`files`: place in the new directory -> file; `texts`: place -> what is written there; `notes`: for a person."""

    files: Mapping[Path, Path]
    texts: Mapping[Path, str]
    notes: tuple[str, ...]

    def write(self, out: Path) -> None:
        """Write all of them into `out`. Raises CheckpointError, naming the file, when one cannot be read."""
        for place, file in self.files.items():
            target = out / place
            target.parent.mkdir(exist_ok=True)
            try:
                content = file.read_bytes()
            except OSError as err:
                raise CheckpointError(f"file {file}", err.strerror, "a readable file", _COPY_AGAIN) from err
            target.write_bytes(content)
        for place, text in self.texts.items():
            (out / place).parent.mkdir(exist_ok=True)
            write_atomic(out / place, text)


def small_files(directory: Path) -> list[Path]:
    """Paths, relative to a model directory, of its small files but config.json, in order. Raises CheckpointError for
    one that is no file."""
    try:
        present = [path.relative_to(directory) for path in directory.iterdir()]
        if (directory / _MORE_TEMPLATES).is_dir():
            present += [path.relative_to(directory) for path in (directory / _MORE_TEMPLATES).iterdir()]
    except OSError as err:
        raise CheckpointError(f"directory {directory}", err.strerror, "a readable directory", _COPY_AGAIN) from err
    names = sorted(name for name in present if _is(name, _ALL))
    for name in names:
        if not (directory / name).is_file():
            dangling = (directory / name).is_symlink()
            value = "a link to nothing" if dangling else "no regular file"
            raise CheckpointError(f"file {directory / name}", value, "a readable file", _COPY_AGAIN)
    return names


def copy_small_files(
    source: Path, out: Path, *, config: Mapping[str, Any] | None = None, adapter: Path | None = None
) -> tuple[str, ...]:
    """Write the small files of the model in `source` into `out`, and config.json with the dtype that Slipway writes,
    bf16. `config` stands for the source's own, `adapter` is a folder whose tokenizer and templates are used instead.

    Returns notes for a person. Raises CheckpointError, or AdapterError for a tokenizer with more tokens than rows.
    """
    document = in_bf16(config or read_config(source))
    document.pop("quantization_config", None)  # what the base was stored in
    collected = _with_adapter(source, adapter, document) if adapter else _of_model(source)
    collected.write(out)
    write_atomic(out / "config.json", json.dumps(document, indent=2) + "\n")
    return (*collected.notes, *_code_notes(collected, document))


@contextmanager
def merged_directory(source: Path, config: Mapping[str, Any], adapter: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A temporary model directory without weights: the small files of a merge, and notes for a person."""
    with temporary_folder("slipway-merge") as folder:
        yield folder, copy_small_files(source, folder, config=config, adapter=adapter)


def _of_model(directory: Path) -> SmallFiles:
    return SmallFiles({name: directory / name for name in small_files(directory)}, {}, ())


def _with_adapter(base: Path, adapter: Path, config: Mapping[str, Any]) -> SmallFiles:
    theirs, ours = small_files(base), _adapter_files(adapter)
    if not ours:
        return _of_model(base)
    replaced: tuple[str, ...] = ()
    if _any(ours, _VOCABULARY):
        _require_rows(adapter, config)
        replaced = _TOKENIZER
    own_template = _any(ours, _TEMPLATES) or bool(_inline_templates(adapter))
    if own_template:
        replaced += _TEMPLATES
    files = {name: base / name for name in theirs if not _is(name, replaced)} | {name: adapter / name for name in ours}
    texts = {} if own_template or _any(theirs, _TEMPLATES) else _as_files(_inline_templates(base))
    names = ", ".join(str(name) for name in ours)
    notes = [f"from the adapter's folder, in place of the base's: {names}"]
    if _any(ours, _VOCABULARY) and not own_template and (texts or _any(theirs, _TEMPLATES)):
        notes.append("the adapter's tokenizer has no chat template: the base's is used")
    return SmallFiles(files, texts, tuple(notes))


def _adapter_files(adapter: Path) -> list[Path]:
    return [name for name in small_files(adapter) if _is(name, (*_TOKENIZER, *_TEMPLATES, *_PROCESSORS))]


def _is(name: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.as_posix(), pattern) for pattern in patterns)


def _any(names: list[Path], patterns: tuple[str, ...]) -> bool:
    return any(_is(name, patterns) for name in names)


def _inline_templates(directory: Path) -> dict[str, str]:
    """Templates by name that stand in tokenizer_config.json, as older releases of transformers wrote them."""
    file = directory / "tokenizer_config.json"
    template = _json(file).get("chat_template") if file.is_file() else None
    if isinstance(template, str):
        return {"default": template}
    rows = [row for row in template or () if isinstance(row, dict)] if isinstance(template, list) else []
    return {str(row.get("name")): str(row.get("template")) for row in rows}


def _as_files(templates: Mapping[str, str]) -> dict[Path, str]:
    places = {name: Path(_MORE_TEMPLATES) / f"{Path(name).name}.jinja" for name in templates}
    return {Path("chat_template.jinja") if name == "default" else places[name]: t for name, t in templates.items()}


def _require_rows(adapter: Path, config: Mapping[str, Any]) -> None:
    """A token without a row in the embedding ends in an index out of range, or in another token's row."""
    file = adapter / "tokenizer.json"
    nested = config.get("text_config")
    rows = {**config, **(nested if isinstance(nested, dict) else {})}.get("vocab_size")
    if not file.is_file() or not isinstance(rows, int):
        return
    added = _json(file).get("added_tokens")
    ids = [t["id"] for t in added or () if isinstance(t, dict) and isinstance(t.get("id"), int)]
    if ids and max(ids) >= rows:
        raise AdapterError(
            f"tokenizer of adapter {adapter}",
            f"a token of id {max(ids)}",
            f"ids below {rows}, the rows of the embedding",
            "save the resized embedding with the adapter: modules_to_save, or PEFT's save_embedding_layers",
        )


def _json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, "tokenizer file", _COPY_AGAIN)
    except StateError as err:
        raise CheckpointError(err.thing, err.value, err.expected, err.next_step) from err


def _code_notes(collected: SmallFiles, config: Mapping[str, Any]) -> tuple[str, ...]:
    code = [str(name) for name in collected.files if _is(name, _CODE)]
    if not code and not config.get("auto_map"):
        return ()
    return (
        f"config.json names code of its own (auto_map): {', '.join(code) or 'none of it is here'}; copied, not run. "
        "Who loads the model must trust it (trust_remote_code)",
    )


def require_model(directory: Path, *, tokenizer: bool = True) -> None:
    """Raise CheckpointError unless this is a Hugging Face model directory with weights in safetensors."""
    if not directory.is_dir():
        raise CheckpointError("model.directory", f"{directory} does not exist", "a directory", _POINT_AT)
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"model directory {directory}", "no config.json", "a Hugging Face model", _POINT_AT)
    read_config(directory)
    weights_file(directory)
    present = small_files(directory)  # one that cannot be copied is refused before hours of work, not after
    if tokenizer and not _any(present, _VOCABULARY):
        raise CheckpointError(
            f"model directory {directory}", "no tokenizer", "tokenizer.json or tokenizer.model", _POINT_AT
        )


_POINT_AT = "set model.directory to a Hugging Face model directory with safetensors"
