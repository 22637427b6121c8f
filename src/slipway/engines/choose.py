"""Which engine serves a target and a workload (`engine.kind: auto`), and the table it was decided by.

The rules are data, `choice.json`: an engine, when the rule holds, what it does (refuses the engine, or gives it
points), the reason, its source and the day it was read. Formats that an engine does not run on the target's GPU are
refused by `format_support`. The engine with most points of those that are not refused serves; of equals the first of
ENGINES, whose start is the shorter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from slipway.config.engine import EngineConfig
from slipway.config.model import ModelConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.target import TargetConfig
from slipway.engines.format_support import capability, require_support
from slipway.errors import ConfigError

ENGINES = ("llama.cpp", "vllm", "trtllm")
IMAGES = {"vllm": "vllm", "trtllm": "trtllm"}  # rows of conf/images.yaml, where engine.image names none


@dataclass(frozen=True)
class Verdict:
    """One rule that held for one engine: points, or None where it refuses, with reason, source and date."""

    engine: str
    points: int | None
    reason: str
    source: str


@dataclass(frozen=True)
class Choice:
    """The engine that serves, and every rule that held."""

    engine: str
    verdicts: tuple[Verdict, ...]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table for people: (engine, points or refused, reason, source), the chosen engine first."""
        ordered = sorted(self.verdicts, key=lambda one: (one.engine != self.engine, ENGINES.index(one.engine)))
        return [
            (one.engine, "refused" if one.points is None else f"{one.points:+d}", one.reason, one.source)
            for one in ordered
        ]

    def lines(self) -> list[str]:
        """The same as sentences for a log."""
        head = f"engine.kind=auto: {self.engine}"
        return [head, *(f"{engine} {points}: {reason} ({source})" for engine, points, reason, source in self.rows())]


def choose(engine: EngineConfig, model: ModelConfig, quantize: QuantizeConfig, target: TargetConfig) -> Choice:
    """The engine for a checkpoint of `quantize` on `target` under `engine.workload`. Raises ConfigError with every
    reason when all are refused."""
    facts = _facts(engine, model, quantize, target)
    verdicts = [verdict for rule in rules() if (verdict := _verdict(rule, facts))]
    if target.gpus:
        sm = capability(target.compute_capability, target.name)
        names = tuple(dict.fromkeys([quantize.format, *(f for f in quantize.rules.values() if f != "bf16")]))
        verdicts += [v for name in ENGINES[1:] if (v := _format_verdict(name, quantize.layout, names, sm))]
    if engine.python:
        own = "engine.python names an interpreter, which only vLLM runs in"
        verdicts += [Verdict(name, None, own, "engine.python") for name in ENGINES if name != "vllm"]
    points = {
        name: sum(v.points or 0 for v in verdicts if v.engine == name)
        for name in ENGINES
        if not any(v.points is None and v.engine == name for v in verdicts)
    }
    if not points:
        why = "; ".join(f"{v.engine}: {v.reason}" for v in verdicts if v.points is None)
        raise ConfigError(
            f"engine for {target.name}", f"none: {why}", "one that serves it", "change quantize.format or the target"
        )
    return Choice(max(points, key=lambda name: points[name]), tuple(verdicts))


def resolved(
    engine: EngineConfig, model: ModelConfig, quantize: QuantizeConfig, target: TargetConfig
) -> tuple[EngineConfig, Choice | None]:
    """The section with the chosen engine and its image in place of `auto`, and the choice; unchanged where an engine
    is named."""
    if engine.kind != "auto":
        return engine, None
    choice = choose(engine, model, quantize, target)
    image = engine.image or (None if engine.python else IMAGES.get(choice.engine))
    document = {**engine.model_dump(), "kind": choice.engine, "image": image}
    return EngineConfig.model_validate(document), choice


def rules() -> list[dict[str, Any]]:
    """The rules of `choice.json`, in order."""
    text = resources.files("slipway.engines").joinpath("choice.json").read_text(encoding="utf-8")
    return list(json.loads(text)["rules"])


def _facts(
    engine: EngineConfig, model: ModelConfig, quantize: QuantizeConfig, target: TargetConfig
) -> dict[str, float | bool | str]:
    work = engine.workload
    gpu = {"sm": float(capability(target.compute_capability, target.name))} if target.gpus else {}
    return {
        **gpu,
        "gpus": float(target.nodes * target.gpus),
        "nodes": float(target.nodes),
        "users": float(work.users if work.users is not None else engine.slots),
        "hours_per_start": work.hours_a_day / max(work.starts_a_day, 1 / 365),
        "mixture": model.experts > 0,
        "formats": quantize.format,
    }


def _verdict(rule: Mapping[str, Any], facts: Mapping[str, float | bool | str]) -> Verdict | None:
    if not all(_holds(wanted, facts.get(name)) for name, wanted in rule["when"].items()):
        return None
    points = None if rule.get("refuse") else int(rule["points"])
    return Verdict(rule["engine"], points, rule["reason"], f"{rule['source']}, read {rule['read']}")


def _holds(wanted: Any, fact: float | bool | str | None) -> bool:
    """Whether a fact is what a rule asks for: a truth, one of some names, or a number within [least, most]."""
    if fact is None or isinstance(wanted, bool):
        return fact is not None and wanted is fact
    if isinstance(fact, str):
        return fact in wanted
    least, most = wanted
    return (least is None or fact >= least) and (most is None or fact <= most)


def _format_verdict(engine: str, layout: str, names: tuple[str, ...], sm: int) -> Verdict | None:
    try:
        require_support(engine, layout, names, sm)
    except ConfigError as err:
        return Verdict(engine, None, f"{err.thing} {err.value}", "engines/format_support.py")
    return None
