"""One config, parsed once at the edge into frozen models; below it, plain arguments.

Layers, later wins: `conf/base.yaml`, then the files its `layers:` section names (one per section), then `key=value`
overrides (`train.lr=3.0e-4 layers.quantize=formats/fp8`). Unknown keys are errors. PyYAML reads `2e-4` as text: write
`2.0e-4`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError
from yaml import YAMLError

from slipway.config.base import Section
from slipway.config.data import DataConfig
from slipway.config.deploy import DeployConfig
from slipway.config.engine import EngineConfig
from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.config.image import ImageConfig
from slipway.config.merge import MergeConfig
from slipway.config.model import ModelConfig as ModelConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.config.tracking import TrackingConfig
from slipway.config.train import TrainConfig as TrainConfig
from slipway.errors import ConfigError
from slipway.system.nearest import did_you_mean, nearest


class Config(Section):
    """Everything a run of finetune-and-ship needs."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The base model.")
    data: DataConfig = Field(default_factory=DataConfig, description="The data.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="Fine-tuning.")
    merge: MergeConfig = Field(default_factory=MergeConfig, description="Adapter merge.")
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig, description="Quantization.")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="Engine.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Evaluation of the served model.")
    gate: GateConfig = Field(default_factory=GateConfig, description="Promotion gate.")
    deploy: DeployConfig = Field(default_factory=DeployConfig, description="Promotion target.")
    target: TargetConfig = Field(default_factory=TargetConfig, description="The machine that trains.")
    images: dict[str, ImageConfig] = Field(default_factory=dict, description="Container images.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Storage.")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, description="Tracking.")


def load_config(conf: Path = Path("conf"), overrides: Sequence[str] = ()) -> Config:
    """Merge `conf/base.yaml`, the layers it names and `key=value` overrides; raise ConfigError naming key and file."""
    base = _read(conf / "base.yaml")
    try:
        given = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, YAMLError) as err:
        raise ConfigError(
            "override", " ".join(overrides), "key=value with a dotted key", "see `slipway run --help`"
        ) from err
    assert isinstance(given, dict)
    layers: dict[str, str] = {**base.pop("layers", {}), **(given.pop("layers", None) or {})}
    sections = [{section: _read(conf / f"{name}.yaml")} for section, name in layers.items()]
    merged = OmegaConf.merge(*sections, base, given)
    return parse(OmegaConf.to_container(merged, resolve=True), source=f"{conf} {' '.join(overrides)}".strip())


def section(name: str, given: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """One section by itself, from values and `key=value` words; raises ConfigError like `load_config`."""
    try:
        words = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, YAMLError) as err:
        raise ConfigError("--set", " ".join(overrides), "key=value", "see --help") from err
    assert isinstance(words, dict)
    return getattr(parse({name: {**given, **words}}, source="the command line"), name)


def parse(doc: Any, source: str) -> Config:
    """Validate a plain document; the first problem becomes one ConfigError, the others are counted."""
    try:
        return Config.model_validate(doc)
    except ValidationError as err:
        raise _explain(err, source) from err


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.yaml")])
        hint = f"did you mean {path.parent / near}?" if near else "run from the project's root, or pass --conf"
        raise ConfigError("config layer", path, "an existing YAML file", hint)
    try:
        doc = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, YAMLError) as err:
        raise ConfigError(f"config file {path}", str(err).splitlines()[0], "YAML", "mend the file") from err
    if not isinstance(doc, dict):
        raise ConfigError(f"config file {path}", type(doc).__name__, "a mapping", "mend the file")
    return {str(k): v for k, v in doc.items() if k != "description"}


def _explain(err: ValidationError, source: str) -> ConfigError:
    problems = err.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(key.rsplit(".", 1)[-1], _keys_beside(key), "`slipway config --help` lists the keys")
        return ConfigError(
            f"config key {key}", f"unknown, in {source}{more}", f"one of {', '.join(_keys_beside(key))}", hint
        )
    if first["type"] == "value_error":  # a rule about several keys, in its own words
        said = f"{first['msg'].removeprefix('Value error, ')}, in {source}{more}"
        return ConfigError(f"config section {key}", said, "keys that go together", "change one of them")
    return ConfigError(f"config key {key}", f"{first['input']!r}, in {source}{more}", first["msg"], "mend the value")


def _keys_beside(key: str) -> list[str]:
    model: type[BaseModel] = Config
    for part in key.split(".")[:-1]:
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return sorted(model.model_fields)
