"""Write `contract.json` of every engine driver from the option lists in `tests/contracts/`.

    python -m scripts.engine_contracts

The lists name sources, defaults and help; the package holds what a check needs: names, kinds, choices. Options:
version -> name -> kind; keys: version -> tree of the config file, `null` below a key whose own keys no list has.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LISTS, ENGINES = Path("tests/contracts"), Path("src/slipway/engines")
Doc = dict[str, Any]
_KINDS = {"int": "int", "float": "float", "str": "str", "path": "str", "choice": "str", "enum": "str", "flag": "flag"}
_HUMAN = ("human_readable_int", "human_readable_int_or_auto")  # 16k, auto


def documents() -> dict[str, Doc]:
    """Driver's folder -> its contract.json."""
    serve = {v: _options(_read(f"trtllm/{file}.json")) for v, file in SERVE.items()}
    return {
        "vllm": {"tool": "vllm serve", "options": {"0.26.0": _options(_read("vllm/serve-0.26.0.json"))}},
        "trtllm": {"tool": "trtllm-serve", "options": serve, "keys": {"1.3.0rc24": _serve_keys()}},
        "trtllm_build": {
            "tool": "trtllm-build",
            "options": {"1.2.1": _options(_read("trtllm/trtllm-build.json"))},
            "keys": {"1.2.1": {f["name"]: _kind(f["type"]) for f in _read("trtllm/BuildConfig.json")["fields"]}},
        },
    }


# The lists say how near their source lies to a release: 1.2.1 is the nearest one stored, the second is from between
# 1.3.0rc13 and the removal of the TensorRT backend
SERVE = {"1.2.1": "trtllm-serve-1.2line", "1.3.0rc15": "trtllm-serve-pre-removal", "1.3.0rc22": "trtllm-serve"}


def _read(name: str) -> Doc:
    document: Doc = json.loads((LISTS / name).read_text(encoding="utf-8"))
    return document


def _options(listed: Doc) -> Doc:
    """Name -> kind, or {kind, choices, many, is}: `is` names the option that this one is another spelling of."""
    options: Doc = {}
    for option in listed["options"]:
        names = list(dict.fromkeys([*([option["name"]] if "name" in option else []), *option.get("flags", [])]))
        names += [name for name in option.get("aliases", []) if name not in names]
        positive = [name for name in names if not name.startswith("--no-") or name[5:] not in {n[2:] for n in names}]
        options[positive[0]] = _record(option)
        options |= {name: {"is": positive[0]} for name in positive[1:]}
        options |= {name: {"kind": "off", "is": positive[0]} for name in names if name not in positive}
    return dict(sorted(options.items()))


def _record(option: Doc) -> Any:
    kind = "flag" if option.get("nargs") == 0 else _KINDS.get(str(option["type"]), "any")
    record: Doc = {"kind": kind}
    if choices := option.get("choices"):
        record |= {"kind": "int" if kind == "int" else "str", "choices": choices}
        if option["type"] == "json or parsed":
            record = {"kind": "any"}
    if str(option.get("nargs")) == "+" or option.get("multiple"):
        record["many"] = True
    return kind if record == {"kind": kind} else record


def _serve_keys() -> Doc:
    """Keys of `--config`: those of TorchLlmArgs, and of the sections whose own keys are listed."""
    listed = _read("trtllm/llm_args.json")
    nested = {re.split(r"[ (]", name)[0]: entries for name, entries in listed["nested"].items()}
    keys: Doc = {field["name"]: _kind(field["type"]) for field in listed["fields"]}
    for field in listed["fields"]:
        sections = [n for n in nested if n.endswith("Config") and re.search(rf"\b{n}\b", field["type"])]
        if sections:
            fields = [re.match(r"(\w+):?(.*)", entry) for entry in nested[sections[0]]]
            keys[field["name"]] = {match[1]: _kind(match[2]) for match in fields if match}
        elif "Config" in field["type"] or field["type"] in ("dict|None", "object|None", "union|None"):
            keys[field["name"]] = None
    keys["kv_cache_config"] = {f["name"]: _kind(f["type"]) for f in _read("trtllm/KvCacheConfig.json")["fields"]}
    return keys


def _kind(text: str) -> Any:
    """`int`, `float`, `bool`, `str`, a list of choices, or `any`, of a field's type as the list spells it."""
    text = text.split("=")[0].strip()
    if choices := re.search(r"(?:Literal)?\[([A-Z0-9_,]+)\]|Literal\[([^\]]+)\]", text):
        return [c for c in re.split(r"[',|]+", choices[1] or choices[2]) if c]
    first = re.match(r"(int|float|bool|str)\b(?!\|(?!None))", text)
    return first[1] if first else "any"


def main() -> None:
    """Write them all."""
    for folder, document in documents().items():
        text = json.dumps(document, indent=1)
        (ENGINES / folder / "contract.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
