"""`deploy.target: auto`: a Spark or a datacenter DGX, by rules on figures; what was not measured is said, not guessed.

A Spark serves unless a rule asks for a DGX:

    model size            more billions of parameters than routing.model_b
    room for the model    not one request of engine.context tokens beside the weights at their precision
    requests at once      more than many_users; from few_users on, more than the Spark's memory holds
    full fine-tuning      train.method=sft above full_training_b
    training time         more than training_hours; only a training that was measured on a Spark tells
    serving beside training   both on one Spark need more memory than it has

The first that does decides, in this order. A rule without a figure says `cannot tell` and decides nothing; when no rule
can tell, nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.config.load import Config, load_config, parse
from slipway.config.routing import Route, RouteRule, RoutingConfig
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError, SlipwayError
from slipway.planning.fit import fit, gpu_room
from slipway.planning.serving_capacity import Capacity, Wish, model_of, serving_capacity
from slipway.planning.training_memory import memory_plan, unknown_architecture

AUTO = "auto"
WEIGHTS = {"nvfp4": "nvfp4", "nvfp4a16": "nvfp4", "mxfp4": "mxfp4", "fp8": "fp8", "fp8-dynamic": "fp8"}
ROW, PLAN = "conf/models", "planned from the model's shape"


@dataclass(frozen=True)
class Figures:
    """What the rules look at. None: not known, and `unknown` says why by the figure's name. Bytes and hours."""

    model_b: float
    method: str
    users: int
    spark_users: int | None
    training_hours: float | None
    training_bytes: float | None
    serving_bytes: float | None
    spark_bytes: float | None
    trains_on_spark: bool
    unknown: dict[str, str]


def routed(config: Config, conf: Path, training: dict[str, Any] | None = None) -> Config:
    """The config with `deploy` of the target that the rules choose, under the keys that were set beside `auto`, and the
    `serving` that its row goes with; as it is where a target is named. `training`: the summary of the adapter that was
    trained on `config.target`.

    Raises ConfigError when no rule can tell, or when conf/deploy has no row of the target's name.
    """
    if config.deploy.target != AUTO:
        return config
    limits = config.deploy.routing
    spark = load_config(conf, [f"layers.target=targets/{limits.spark}"]).target
    chosen = route(figures_of(config, spark, training), limits)
    row = load_config(conf, [f"layers.deploy=deploy/{chosen.target}"])
    own = _changed(config.deploy.model_dump(mode="json"), DeployConfig(target=AUTO).model_dump(mode="json"))
    document = _over(row.deploy.model_dump(mode="json"), {**own, "target": row.deploy.target, "routed": chosen})
    deploy = parse({"deploy": document}, f"deploy/{chosen.target} with the keys that were set beside auto").deploy
    serving = config.serving if row.serving == load_config(conf).serving else row.serving
    return config.model_copy(update={"deploy": deploy, "serving": serving})


def _changed(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section that somebody set: what differs from the section as it is by itself, at any depth."""
    changed = {}
    for key, value in ours.items():
        before = plain.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := _changed(value, before):
                changed[key] = inner
        elif value != before:
            changed[key] = value
    return changed


def _over(row: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the keys that somebody set in the place of its own, at any depth."""
    merged = dict(row)
    for key, value in own.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def route_lines(chosen: Route | None) -> list[str]:
    """What was chosen and why, a line each; empty where the target was named."""
    if chosen is None:
        return []
    rules = [f"  {r.rule}: {r.value}; {r.threshold} -> {r.says} ({r.source})" for r in chosen.rules]
    return [f"target {chosen.target}, decided by: {chosen.decided_by}", *rules]


def route(figures: Figures, limits: RoutingConfig) -> Route:
    """Every rule applied, and what they choose. Raises ConfigError when no rule can tell."""
    rules = tuple(_rules(figures, limits))
    if all(rule.says == "cannot tell" for rule in rules):
        raise ConfigError("deploy.target", AUTO, "a rule that can tell", "name the target: --to TARGET")
    asking = next((rule for rule in rules if rule.says == "dgx"), None)
    decided_by = asking.rule if asking else "no rule asks for a DGX"
    return Route(target=limits.dgx if asking else limits.spark, decided_by=decided_by, rules=rules)


def figures_of(config: Config, spark: TargetConfig, training: dict[str, Any] | None) -> Figures:
    """The figures of a config on a Spark. Whatever cannot be planned is None, with the reason in `unknown`."""
    unknown: dict[str, str] = {}
    plan = _serving(config, spark, unknown)
    on_spark = config.target.name == spark.name
    users = config.engine.workload.users or config.engine.slots
    hours = None
    if training is None or "seconds" not in training:
        unknown["training_hours"] = "no training was measured"
    elif not on_spark:
        unknown["training_hours"] = f"{training['seconds'] / 3600:.2g} h on {config.target.name}, which is no Spark"
    else:
        hours = float(training["seconds"]) / 3600
    return Figures(
        model_b=config.model.parameters_b,
        method=config.train.method,
        users=users,
        spark_users=plan.users if plan else None,
        training_hours=hours,
        training_bytes=_training(config, spark, unknown) if on_spark else None,
        serving_bytes=plan.weights + plan.compute + plan.request * users if plan else None,
        spark_bytes=gpu_room(spark),
        trains_on_spark=on_spark,
        unknown=unknown,
    )


def _serving(config: Config, spark: TargetConfig, unknown: dict[str, str]) -> Capacity | None:
    users = config.engine.workload.users or config.engine.slots
    try:
        model = model_of(config.model, WEIGHTS.get(config.quantize.format, "bf16"))
        return serving_capacity(model, Wish(users, config.engine.context), spark)
    except SlipwayError as err:
        unknown["spark_users"] = f"{err.thing}: {err.value}"
        return None


def _training(config: Config, spark: TargetConfig, unknown: dict[str, str]) -> float | None:
    try:
        if why := unknown_architecture(config.model):
            unknown["training_bytes"] = why
            return None
        return memory_plan(config.model, config.train, spark).needed
    except SlipwayError as err:
        unknown["training_bytes"] = f"{err.thing}: {err.value}"
        return None


def _rules(it: Figures, limits: RoutingConfig) -> Iterator[RouteRule]:
    size = f"{it.model_b:g} B parameters"
    yield _rule("model size", size, f"at most {limits.model_b:g} B", it.model_b > limits.model_b, ROW)
    yield _room(it)
    yield _users(it, limits)
    full = it.method == "sft" and it.model_b > limits.full_training_b
    threshold = f"sft of at most {limits.full_training_b:g} B"
    yield _rule("full fine-tuning", f"{it.method} of {it.model_b:g} B", threshold, full, "train.method, conf/models")
    yield _time(it, limits)
    yield _contention(it)


def _rule(name: str, value: str, threshold: str, asks: bool | None, source: str) -> RouteRule:
    """`asks`: whether the rule asks for a DGX; None: it cannot tell, and `value` says why."""
    says = "cannot tell" if asks is None else "dgx" if asks else "spark"
    return RouteRule.model_validate(
        {"rule": name, "value": value, "threshold": threshold, "says": says, "source": source}
    )


def _room(it: Figures) -> RouteRule:
    name, threshold = "room for the model", "1 request beside the weights"
    if it.spark_users is None:
        return _rule(name, it.unknown.get("spark_users", "not known"), threshold, None, PLAN)
    return _rule(name, f"{it.spark_users} requests fit a Spark", threshold, it.spark_users < 1, PLAN)


def _users(it: Figures, limits: RoutingConfig) -> RouteRule:
    name, source = "requests at once", "engine.workload.users, else engine.slots"
    threshold = f"at most {limits.few_users}; to {limits.many_users} what memory holds"
    if it.users > limits.many_users or it.users <= limits.few_users:
        return _rule(name, str(it.users), threshold, it.users > limits.many_users, source)
    if it.spark_users is None:
        return _rule(name, f"{it.users}; {it.unknown.get('spark_users', 'room not known')}", threshold, None, source)
    value = f"{it.users}, of {it.spark_users} that fit"
    return _rule(name, value, threshold, it.users > it.spark_users, f"{source}; {PLAN}")


def _time(it: Figures, limits: RoutingConfig) -> RouteRule:
    name, threshold = "training time", f"at most {limits.training_hours:g} h"
    if it.training_hours is None:
        return _rule(name, it.unknown.get("training_hours", "not measured"), threshold, None, "no measurement")
    hours = it.training_hours
    return _rule(name, f"{hours:.3g} h", threshold, hours > limits.training_hours, "measured, the adapter's summary")


def _contention(it: Figures) -> RouteRule:
    name = "serving beside training"
    room = f"at most {it.spark_bytes / 1e9:.0f} GB" if it.spark_bytes else "memory of a Spark"
    if not it.trains_on_spark:
        return _rule(name, "training runs on another machine", room, asks=False, source="target.name")
    if it.training_bytes is None or it.serving_bytes is None or it.spark_bytes is None:
        why = it.unknown.get("training_bytes") or it.unknown.get("spark_users") or "not known"
        return _rule(name, why, room, None, PLAN)
    needed = it.training_bytes + it.serving_bytes
    value = f"{it.training_bytes / 1e9:.0f} + {it.serving_bytes / 1e9:.0f} GB"
    return _rule(name, value, room, not fit(needed, it.spark_bytes).fits, PLAN)
