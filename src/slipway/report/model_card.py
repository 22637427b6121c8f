"""The model card: what was shipped, from what, how good, and how that is known. Markdown, from
`mlflow/model-card.md`."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from slipway.errors import ConfigError
from slipway.report import markdown
from slipway.report.record import RunRecord
from slipway.system.files import sha256_file

TEMPLATE = "model-card.md"


def model_card(record: RunRecord, template: Path | None = None) -> str:
    """The card as Markdown. `template` defaults to the project's `mlflow/model-card.md`, else the one that the package
    ships.

    Raises ConfigError when the template asks for a field that does not exist.
    """
    text = template.read_text(encoding="utf-8") if template else _template()
    fields = _fields(record)
    try:
        return Template(text).substitute(fields)
    except (KeyError, ValueError) as err:
        known = ", ".join(sorted(fields))
        raise ConfigError(
            f"model card template {template or TEMPLATE}", err, f"fields among {known}", "mend the template"
        ) from err


def _template() -> str:
    """From the working directory (a clone's root), the installed package, or the clone that the package runs from."""
    here = (
        Path("mlflow") / TEMPLATE,
        Path(str(resources.files("slipway"))) / TEMPLATE,
        Path(__file__).parents[3] / "mlflow" / TEMPLATE,
    )
    template_file = next((p for p in here if p.is_file()), None)
    if template_file is None:
        raise ConfigError(
            "model card template", "not found", f"one of {', '.join(map(str, here))}", "run from the project's root"
        )
    return template_file.read_text(encoding="utf-8")


def _fields(record: RunRecord) -> dict[str, Any]:
    config, data, quantized = record.config, record.summary("prepare"), record.summary("quantize")
    return {
        "model": config.line,
        "license": config.model.license,
        "base": _base_name(record),
        "method": config.train.method,
        "format": config.quantize.format + ("-mixed" if config.quantize.rules or config.quantize.max_bits else ""),
        "engine": config.engine.kind,
        "outcome": record.judged["outcome"],
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "base_provenance": markdown.pairs(_base_provenance(record)),
        "data_license": data.get("license", config.data.license),
        "data_revision": data.get("source_revision", "unknown"),
        "data_card_digest": _data_card_digest(record),
        "data_figures": markdown.pairs(data),
        "training_params": markdown.pairs(config.train.model_dump(mode="json", exclude_none=True)),
        "training_figures": markdown.pairs(record.adapter.summary),
        "merge_proof": markdown.pairs(record.summary("merge")),
        "bits": f"{quantized.get('bits_per_parameter', float('nan')):.2f}",
        "quantization_figures": markdown.pairs(quantized),
        "confidence": f"{100 * record.judged['confidence']:.4g}",
        "quality": markdown.quality_table(record),
        "effects": markdown.effect_table(record),
        "speed": markdown.speed_table(record),
        "starts": "\n\n".join((markdown.start_table(record) or "not measured.", _start_figures(record))).strip(),
        "rules": markdown.rule_table(record),
        "skipped": "; ".join(record.judged["skipped"]) or "nothing.",
        "limits": "\n".join(f"- {limit}" for limit in _limits(record)),
        "digests": markdown.digest_table(record),
        "run": markdown.table(("run", ""), record.run.items()),
    }


def _base_name(record: RunRecord) -> str:
    model = record.config.model
    return model.name if model.source == "embedded" else Path(model.directory or "").name


def _base_provenance(record: RunRecord) -> dict[str, Any]:
    """What the checkpoint says of itself, with its figures."""
    source = record.document("fetch", "config.json").get("slipway_source", {"directory": record.config.model.directory})
    return {**source, **record.summary("fetch"), "license": record.config.model.license}


def _data_card_digest(record: RunRecord) -> str:
    made = record.stage("prepare")
    card = Path(made.uri) / "card.md" if made else None
    return sha256_file(card) if card and card.is_file() else "unknown"


def _start_figures(record: RunRecord) -> str:
    """Medians, ends and spread of the shipped engine's starts; empty when none was measured."""
    figures = record.engine.summary
    names = ("start_cache", "cold_start_s", "warm_start_s", "warm_start_min_s", "warm_start_max_s", "boot_speed_spread")
    present = {name: figures[name] for name in names if name in figures}
    return markdown.pairs(present) if present else ""


def _limits(record: RunRecord) -> list[str]:
    n = record.metrics()["candidate"]["n"]
    limits = [
        f"Judged on {n} test items of one task; nothing is known of other tasks, languages or phrasings.",
        "Intervals count items of one template as one cluster, not templates that are alike among each other.",
        "Speed holds for the machine it was measured on.",
    ]
    if quantization := record.document("fetch", "config.json").get("slipway_source", {}).get("quantization"):
        limits.append(
            f"The base was dequantized from {quantization}: the cost of quantization is against those weights, not "
            "the original ones."
        )
    limits += [
        f"Gate rule {r['rule']} {r['metric']}: {r['reason']}." for r in record.judged["rules"] if r["outcome"] != "pass"
    ]
    return limits
