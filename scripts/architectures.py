"""Write `src/slipway/weights/architecture_table.py`: what transformers says of the classes that Slipway has verified.

    python -m scripts.architectures

Run it when transformers is updated; a test compares the table with the installed transformers.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "src/slipway/weights/architecture_table.py"
_TEXT, _VISION = "AutoModelForCausalLM", "AutoModelForImageTextToText"

# model_type, the class's auto class, and configs that between them have every module of the class
VERIFIED: tuple[tuple[str, str, tuple[dict[str, Any], ...]], ...] = (
    *((name, _TEXT, ({},)) for name in ("gemma2", "gemma3_text", "gpt2", "llama", "mistral", "phi3", "qwen2", "qwen3")),
    *((name, _TEXT, ({},)) for name in ("gpt_oss", "granite", "granitemoe", "mixtral", "smollm3")),
    ("deepseek_v3", _TEXT, ({}, {"q_lora_rank": None})),
    ("glm4_moe", _TEXT, ({},)),
    ("lfm2_moe", _TEXT, ({"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},)),
    ("llama4_text", _TEXT, ({},)),
    ("qwen2_moe", _TEXT, ({}, {"mlp_only_layers": [1]})),
    ("qwen3_moe", _TEXT, ({}, {"mlp_only_layers": [1]})),
    ("gemma3", _VISION, ({},)),
    ("idefics3", _VISION, ({},)),
    ("qwen2_5_vl", _VISION, ({},)),
)
_HEADER = '''"""The classes of transformers {version} that Slipway has verified, as `architecture_probe` describes them.

One file because it is a table. Written by `python -m scripts.architectures`; a test compares it with transformers."""

from __future__ import annotations

from slipway.weights.architecture import Architecture, Rename

# Renamings that transformers applies to every class, after its own.
_LEGACY = (
    {legacy}
)

ARCHITECTURES: dict[str, Architecture] = {{
    row.name: row
    for row in (
        {rows}
    )
}}
'''


def rows() -> list[Any]:
    """The Architecture of every verified class, by transformers, in the order of their names."""
    import torch
    import transformers

    from slipway.weights.architecture_probe import describe

    described = []
    for model_type, auto, variants in VERIFIED:
        variant_rows = []
        for keys in variants:
            config = transformers.AutoConfig.for_model(model_type, **keys)
            with torch.device("meta"):
                variant_rows.append(describe(getattr(transformers, auto).from_config(config)))
        described.append(_united(variant_rows))
    return sorted(described, key=lambda row: row.name)


def _united(variants: list[Any]) -> Any:
    """One row with the modules of all variants."""
    first = variants[0]
    roles = sorted({role for row in variants for role in row.modules})
    modules = {role: tuple(sorted({p for row in variants for p in row.modules.get(role, ())})) for role in roles}
    return replace(first, modules=modules)


def source() -> str:
    """The table as Python, before it is formatted."""
    import transformers

    table = rows()
    legacy = _common_tail([row.renames for row in table])
    return _HEADER.format(
        version=transformers.__version__,
        legacy="".join(f"{_call(entry)}," for entry in legacy),
        rows="".join(f"{_row(row, len(legacy))}," for row in table),
    )


def _common_tail(sequences: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    length = 0
    while all(len(s) > length and s[-1 - length] == sequences[0][-1 - length] for s in sequences):
        length += 1
    return sequences[0][len(sequences[0]) - length :]


def _row(row: Any, legacy: int) -> str:
    own = row.renames[: len(row.renames) - legacy]
    renames = f"({''.join(_call(entry) + ', ' for entry in own)}*_LEGACY)" if own else "_LEGACY"
    return _call(row, {"renames": renames})


def _call(value: Any, written: dict[str, str] | None = None) -> str:
    """A constructor's call with what differs from the defaults; `written` has arguments that are Python already."""
    arguments = []
    for item in fields(value):
        current = getattr(value, item.name)
        if item.name in (written or {}):
            arguments.append(f"{item.name}={(written or {})[item.name]}")
        elif not (item.default == current or (current in ({}, ()) and item.name != "modules")):
            arguments.append(f"{item.name}={_literal(current)}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + "".join(f"{_literal(item)}, " for item in value) + ")"
    return _call(value) if hasattr(value, "__dataclass_fields__") else repr(value)


def formatted(text: str) -> str:
    """As ruff formats it, by the project's rules."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TABLE), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=TABLE.parents[3]).stdout


def main() -> None:
    """Write the table."""
    TABLE.write_text(formatted(source()), encoding="utf-8")
    print(f"wrote {TABLE}")


if __name__ == "__main__":
    main()
