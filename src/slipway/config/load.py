"""One config, parsed once at the edge into frozen models; below it, plain arguments.

Layers, later wins: `conf/base.yaml` over the files that its `layers:` section names (one per section), a document of
values (parameters of a run through Prefect), then `key=value` overrides (`train.lr=3.0e-4
layers.quantize=formats/fp8`). `layers` may also name a preset, a file that chooses several layers (`layers=smoke`), and
a layer may choose others. Unknown keys are errors. PyYAML reads `2e-4` as text: write `2.0e-4`. A layer `data`
describes one raw file: with another `data.raw` and no layer chosen for it (`layers.data`), the keys of the layer do not
apply. With other data of either kind a preset's layers for `rag` and `agent` do not apply.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError
from yaml import YAMLError

from slipway.config.agent import AgentConfig
from slipway.config.base import Section
from slipway.config.data import DataConfig
from slipway.config.deploy import DeployConfig
from slipway.config.engine import EngineConfig
from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.config.image import ImageConfig
from slipway.config.layers import choices, companions, preset, read_layers, read_mapping, reason
from slipway.config.merge import MergeConfig
from slipway.config.model import ModelConfig
from slipway.config.notify import NotifyConfig
from slipway.config.overrides import parse_overrides, without_cleared
from slipway.config.quantize import QuantizeConfig
from slipway.config.rag import RagConfig
from slipway.config.remote import RemoteConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.config.tracking import TrackingConfig
from slipway.config.train import TrainConfig
from slipway.config.watch import WatchConfig
from slipway.errors import ConfigError
from slipway.system.nearest import did_you_mean
from slipway.system.redact import mask

ANY_GATE = "gates/any"  # the gate of data whose own gate nobody named
APPLICATION = ("rag", "agent")  # sections that a preset fills for the data of its layers alone
_SHOWN_CHARS = 200


class Config(Section):
    """Everything a run of finetune-and-ship needs."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The base model.")
    data: DataConfig = Field(default_factory=DataConfig, description="The data.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="Fine-tuning.")
    merge: MergeConfig = Field(default_factory=MergeConfig, description="Adapter merge.")
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig, description="Quantization.")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="Engine.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Evaluation of the served model.")
    agent: AgentConfig = Field(default_factory=AgentConfig, description="An agent on the served model.")
    gate: GateConfig = Field(default_factory=GateConfig, description="Promotion gate.")
    deploy: DeployConfig = Field(default_factory=DeployConfig, description="Promotion target.")
    rag: RagConfig = Field(default_factory=RagConfig, description="Retrieval: `slipway rag`.")
    target: TargetConfig = Field(default_factory=TargetConfig, description="The machine that trains.")
    serving: TargetConfig = Field(default_factory=TargetConfig, description="The machine that serves.")
    images: dict[str, ImageConfig] = Field(default_factory=dict, description="Container images.")
    remote: RemoteConfig = Field(default_factory=RemoteConfig, description="The machine that stages run on.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Storage.")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, description="Tracking.")
    notify: NotifyConfig = Field(default_factory=NotifyConfig, description="Messages.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="Looks at what serves.")

    @property
    def line(self) -> str:
        """The registered model's name: what is made of this model for this data, version after version."""
        return line_name(self.data.name or Path(self.data.raw).stem, self.model.name)


def line_name(data: str, model: str) -> str:
    """`home-intents-smollm2-135m`: both names in lower case, each run of other signs than letters and digits one dash.

    MLflow refuses `/ : . % " '` in names, and Slipway puts the name into links. Raises ConfigError when nothing is
    left.
    """
    parts = [
        re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", name).casefold()).strip("-") for name in (data, model)
    ]
    for key, name, part in zip(("data.name", "model.name"), (data, model), parts, strict=True):
        if not part:
            raise ConfigError(f"config key {key}", repr(name), "a name with a letter or a digit in it", f"set {key}")
    return "-".join(parts)


def load_config(
    conf: Path = Path("conf"), overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> Config:
    """The config of `conf/`, with the values of `given` (a partial config, `layers` included) and then `overrides` on
    top.

    Raises ConfigError naming key, file and value for whatever is not understood.
    """
    sections = Config.model_fields
    base, parameters, words = (
        read_mapping(conf / "base.yaml"),
        dict(given or {}),
        parse_overrides(overrides, holds_text=_holds_text),
    )
    layers = choices(base.pop("layers", None), str(conf / "base.yaml"), sections)
    chosen = parameters.pop("layers", None)
    by_preset: dict[str, str] = {}
    for name in [*([chosen] if isinstance(chosen, str) else []), *words.presets]:
        by_preset |= preset(conf, name, sections)
    named = {} if isinstance(chosen, str) else choices(chosen, "the parameters", sections)
    named |= choices(words.values.pop("layers", None), "the overrides", sections)
    described_data = (layers | by_preset).get("data")
    other_layer = named.get("data", described_data) != described_data

    def own_raw_file() -> bool:
        """Whether the values name another raw file than the layers describe, none of which was chosen for it."""
        later = (parameters, words.values)
        return "data" not in named and any(_of_other_data(doc, *later) for doc in read_layers(conf, layers | by_preset))

    if other_layer or own_raw_file():
        by_preset = {section: name for section, name in by_preset.items() if section not in APPLICATION}
    beside = companions(conf, layers | by_preset | named, sections, named)
    layers |= beside | by_preset
    own_raw, other_layer = own_raw_file(), other_layer and "gate" not in beside
    if "gate" not in named and (own_raw or other_layer) and (conf / f"{ANY_GATE}.yaml").is_file():
        named["gate"] = ANY_GATE  # floors of other data say nothing of these
    described = read_layers(conf, layers | named)
    if own_raw:
        described = [doc for doc in described if not _of_other_data(doc, parameters, words.values)]
    documents = [*described, base, parameters, words.cleared, words.values]
    source = mask(f"{conf} {' '.join(overrides)}".strip())[:_SHOWN_CHARS]
    config = parse(_merge([*documents, _unnamed_data(documents)], source), source)
    config.line  # noqa: B018 - refuses names that make no name
    return config


def section(name: str, given: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """One section by itself, from values and `key=value` words; raises ConfigError like `load_config`."""
    words = parse_overrides(overrides, "--set", lambda key: _holds_text(f"{name}.{key}")).values
    return getattr(parse({name: {**given, **words}}, source="the command line"), name)


def parse(doc: Any, source: str) -> Config:
    """Validate a plain document; the first problem becomes one ConfigError, the others are counted."""
    try:
        return Config.model_validate(doc)
    except ValidationError as err:
        raise _explain(err, source) from None  # pydantic's own text would show the values


def _merge(documents: Sequence[Mapping[str, Any]], source: str) -> Any:
    """The documents over each other, later wins, with their `${...}` resolved. An empty mapping below a section takes
    away what earlier documents put there: `gate.floors={}`."""
    try:
        merged: DictConfig | ListConfig = OmegaConf.create()
        for doc in documents:
            merged = without_cleared(merged, doc)
            merged.merge_with(OmegaConf.create(dict(doc)))  # in place: `OmegaConf.merge` copies what it merges into
        return OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as err:
        key = getattr(err, "full_key", None)
        thing, hint = f"config key {key}" if key else "config", "set what `${...}` names, or write the value itself"
        raise ConfigError(thing, f"{reason(err)}, in {source}", "a value that can be resolved", hint) from err


def _unnamed_data(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A name belongs to the raw file beside it: one from a layer goes when a later document names another file only."""
    sections = [doc.get("data") for doc in documents]
    with_raw = [i for i, data in enumerate(sections) if isinstance(data, Mapping) and "raw" in data]
    later = sections[with_raw[-1] :] if with_raw else []
    named = any("name" in data for data in later if isinstance(data, Mapping))
    return {} if named or not with_raw else {"data": {"name": None}}


def _of_other_data(layer: Mapping[str, Any], *later: Mapping[str, Any]) -> bool:
    """Whether this layer describes a raw file and a later document names another: its caps and labels are not meant for
    that."""
    sections = [doc.get("data") for doc in (layer, *later)]
    raw, *others = [data.get("raw") if isinstance(data, Mapping) else None for data in sections]
    return raw is not None and any(other not in (None, raw) for other in others)


def _holds_text(key: str) -> bool:
    """Whether the config's field of this dotted name holds text, or text or null."""
    known: Any = Config
    for part in key.split("."):
        known = _type_below(known, part)
    choices = get_args(known) if get_origin(known) in (Union, UnionType) else (known,)
    kinds = {get_args(one)[0] if get_origin(one) is Annotated else one for one in choices}
    return str in kinds and kinds <= {str, type(None)}


def _explain(err: ValidationError, source: str) -> ConfigError:
    problems = err.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        beside = _keys_beside(first["loc"])
        hint = did_you_mean(key.rsplit(".", 1)[-1], beside, "`slipway config` lists the keys")
        return ConfigError(
            f"config key {key[:_SHOWN_CHARS]}", f"unknown, in {source}{more}", f"one of {', '.join(beside)}", hint
        )
    if first["type"] == "value_error":  # a rule about several keys, in its own words
        problem = f"{first['msg'].removeprefix('Value error, ')}, in {source}{more}"
        return ConfigError(f"config section {key}", mask(problem), "keys that go together", "change one of them")
    value = mask(f"{first['input']!r}")
    shown = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}..."
    hint = "correct the value"
    if first["type"] == "string_type" and isinstance(first["input"], int | float):
        hint = f"write it as text, in quotes: {key.rsplit('.', 1)[-1]}: '{shown}'"
    return ConfigError(f"config key {key}", f"{shown}, in {source}{more}", first["msg"], hint)


def _keys_beside(place: Sequence[str | int]) -> list[str]:
    """Keys that the config knows where an unknown one was given; `place`: where, as pydantic's errors name it."""
    known: Any = Config
    for part in place[:-1]:
        known = _type_below(known, part)
    return sorted(known.model_fields) if _is_section(known) else []


def _type_below(known: Any, part: str | int) -> Any:
    """The type at `part` of a section's key, a list's or mapping's item, or the section of a union whose `kind` it
    is."""
    if _is_section(known):
        field = known.model_fields.get(part)
        return _without_none(field.annotation) if field else None
    if get_origin(known) in (list, dict):
        return get_args(known)[-1]
    return next((one for one in get_args(known) if part in get_args(one.model_fields["kind"].annotation)), None)


def _without_none(known: Any) -> Any:
    """The section in `Section | None`; anything else as it is."""
    sections = [one for one in get_args(known) if _is_section(one)]
    return sections[0] if len(sections) == 1 and type(None) in get_args(known) else known


def _is_section(known: Any) -> bool:
    return isinstance(known, type) and issubclass(known, BaseModel)
