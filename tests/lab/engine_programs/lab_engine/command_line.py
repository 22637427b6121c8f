"""Command lines as the contracts list them: `vllm serve` by argparse's rules, TensorRT-LLM's tools by click's.

Read from the transcribed lists of the real programs, and on purpose not through Slipway's own contract module: what
Slipway renders is parsed by other code.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"


class Parser(argparse.ArgumentParser):
    """An argparse parser that ends as the real programs do: the reason on stderr, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print usage and reason, exit 2."""
        self.exit(2, f"usage: {self.prog} [OPTIONS]\n{self.prog}: error: {message}\n")


def vllm_serve(argv: Sequence[str]) -> argparse.Namespace:
    """`vllm serve MODEL [OPTIONS]` without `vllm serve`; unknown options end the process with code 2.

    Underscores in option names are taken as dashes, as vLLM's parser does.
    """
    parser = Parser(prog="vllm serve", allow_abbrev=False, add_help=False)
    parser.add_argument("model_tag", nargs="?")
    for option in _contract("vllm/serve-0.26.0.json")["options"]:
        _add_vllm(parser, option)
    dashed = [re.sub(r"^--[^=]+", lambda m: m[0].replace("_", "-"), word) for word in argv]
    return parser.parse_args(dashed)


def trtllm_serve(argv: Sequence[str], line: str) -> argparse.Namespace:
    """`trtllm-serve [serve] MODEL [OPTIONS]` of a release line, `1.2` or `main`."""
    contract = _contract("trtllm/trtllm-serve-1.2line.json" if line == "1.2" else "trtllm/trtllm-serve.json")
    parser = Parser(prog="trtllm-serve", allow_abbrev=False, add_help=False)
    parser.add_argument("model")
    for option in contract["options"]:
        _add_click(parser, option)
    return parser.parse_args(list(argv[1:] if argv[:1] == ["serve"] else argv))


def trtllm_build(argv: Sequence[str]) -> argparse.Namespace:
    """`trtllm-build [OPTIONS]` of the 1.2 line."""
    parser = Parser(prog="trtllm-build", allow_abbrev=False, add_help=False)
    for option in _contract("trtllm/trtllm-build.json")["options"]:
        _add_click(parser, option)
    return parser.parse_args(list(argv))


def _contract(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CONTRACTS / name).read_text())
    return document


def _add_vllm(parser: argparse.ArgumentParser, option: dict[str, Any]) -> None:
    flags = option["flags"]
    if option["takes_value"]:
        parser.add_argument(
            *flags, type=_type(option["type"]), nargs=option["nargs"], choices=option["choices"], dest=_dest(flags[0])
        )
        return
    for flag in flags:
        value = not flag.startswith("--no-") or f"--{flag[5:]}" not in flags
        parser.add_argument(flag, action="store_const", const=value, dest=_dest(flags[0]))


def _add_click(parser: argparse.ArgumentParser, option: dict[str, Any]) -> None:
    names = [option["name"], *option["aliases"]]
    if option["type"] == "flag":
        parser.add_argument(*names, action="store_true", dest=_dest(names[0]), default=option["default"])
        return
    action = "append" if option.get("multiple") else "store"
    parser.add_argument(
        *names,
        type=_type(option["type"]),
        choices=option.get("choices"),
        action=action,
        dest=_dest(names[0]),
        default=option["default"],
    )


def _dest(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _type(name: str | None) -> Callable[[str], Any]:
    simple: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "loads": json.loads}
    if name in ("parse_dataclass", "json or parsed"):
        return _json_mapping
    if name in ("human_readable_int", "human_readable_int_or_auto"):
        return _readable_int
    return simple.get(name or "str", str)


def _json_mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)  # argparse shows a ValueError as "invalid ... value"
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _readable_int(text: str) -> int | str:
    """`16k` is 16,000 and `16K` 16,384, as vLLM reads them."""
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    if text in ("auto", "-1"):
        return text
    return int(float(text[:-1]) * units[text[-1]]) if text[-1:] in units else int(text)
