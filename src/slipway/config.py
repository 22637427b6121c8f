"""One config, parsed once at the edge into frozen models; below it, plain arguments.

Layers, later wins: `conf/base.yaml`, then the files its `layers:` section names (one per section), then `key=value`
overrides (`train.lr=3.0e-4 layers.quantize=formats/fp8`). Unknown keys are errors. PyYAML reads `2e-4` as text: write
`2.0e-4`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError
from yaml import YAMLError

from slipway.errors import ConfigError
from slipway.section import Section, Switch
from slipway.targets import ImageConfig, TargetConfig
from slipway.train_config import ModelConfig as ModelConfig
from slipway.train_config import TrainConfig as TrainConfig


class DataConfig(Section):
    """Raw rows -> validated, deduplicated, balanced -> splits by template."""

    raw: str = Field(
        "data/raw/home.jsonl", description="Chat JSONL with `messages`, your own or the default corpus, whose splits DVC versions."
    )
    system: str | None = Field(None, description="System prompt put before every row that has none; null leaves rows as they are.")
    label_key: str | None = Field(
        "intent",
        description="Key of the assistant's JSON that names the class to balance and to score; null: answers are free text and rows may name a `label`.",
    )
    test_fraction: float = Field(0.15, gt=0, lt=0.5, description="Share of templates held out for the test set, per label.")
    val_fraction: float = Field(0.05, ge=0, lt=0.5, description="Share of templates held out for validation, per label.")
    per_label: int = Field(90, ge=1, description="Most training rows kept per label, rows.")
    val_per_label: int = Field(4, ge=1, description="Most validation rows kept per label, rows.")
    test_per_label: int = Field(10, ge=1, description="Most test rows kept per label, rows.")
    near_duplicate: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Rows with one answer whose word-bigram Jaccard similarity (0 to 1) reaches this are near duplicates.",
    )
    max_tokens: int = Field(512, ge=16, description="Longest row allowed with its chat template, tokens of the base model.")
    seed: int = Field(17, description="Seed of every random choice in the data half.")
    license: str | None = Field(
        None, description="SPDX licence of your data, for the data card; null: that of the default corpus, else `not stated`."
    )


class MergeConfig(Section):
    """Base + adapter -> checkpoint."""

    materialize: bool = Field(
        False, description="Write the merged bf16 shards; otherwise the checkpoint is virtual (base + adapter by reference)."
    )
    max_shard_gb: float = Field(4.0, gt=0, description="Largest shard written when materializing, GB.")
    proof_layers: int = Field(3, ge=1, description="Layers sampled for the merge proof.")
    proof_tokens: int = Field(64, ge=1, description="Tokens whose logits are compared between the merge and base + adapter.")
    max_logit_error: float = Field(
        0.35, gt=0, description="Largest mean absolute logit difference allowed by the proof (bf16 rounding of the merge)."
    )


class CalibrationConfig(Section):
    """Which training rows run through the network for input scales, KV scales and GPTQ."""

    samples: int = Field(128, ge=1, description="Sequences run through the network.")
    length: int = Field(512, ge=16, description="Tokens of a sequence; training rows are joined to fill them.")
    seed: int = Field(17, description="Seed of the choice of rows.")
    micro_batch: int = Field(4, ge=1, description="Sequences run together.")


class QuantizeConfig(Section):
    """Checkpoint -> quantized checkpoint, in one pass."""

    format: Literal["nvfp4", "nvfp4a16", "mxfp4", "fp8", "fp8-dynamic"] = Field(
        "nvfp4a16",
        description="`nvfp4`: weights and inputs in NVFP4 (W4A4); `nvfp4a16`: weights only; `mxfp4`: weights only, block 32; "
        "`fp8`: weights and inputs in E4M3, a scale per tensor; `fp8-dynamic`: a weight scale per channel, inputs scaled per token.",
    )
    method: Literal["max", "mse", "gptq"] = Field(
        "max",
        description="`max`: scales from largest magnitudes, ModelOpt's rule bit for bit; `mse`: block scales searched for the least "
        "squared error (FP4); `gptq`: also rounded so that outputs on calibration data change least.",
    )
    layout: Literal["modelopt", "compressed-tensors"] = Field("modelopt", description="Names and config documents that the runtime reads.")
    kv_cache: Literal["none", "fp8"] = Field("none", description="`fp8`: scales for an FP8 KV cache, from calibration.")
    exclude: list[str] = Field(
        ["lm_head"], description="Modules kept in bf16: shell patterns on module names. Embeddings, routers and norms are always kept."
    )
    rules: dict[str, str] = Field(
        default_factory=dict, description="Mixed precision: shell pattern on module names -> format or `bf16`; the first match wins."
    )
    max_bits: float | None = Field(
        None,
        gt=4,
        le=16,
        description="Mixed precision by measurement: raise what loses most from `format` to FP8, then to bf16, while the average "
        "stays at or below this many bits per quantized parameter; null: off.",
    )
    calibration: CalibrationConfig = Field(default_factory=CalibrationConfig, description="Calibration data.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the arithmetic runs; `auto`: the GPU when there is one.")
    compile: Switch = Field(
        "auto",
        description="Compile the arithmetic; `auto`: on a CPU above 1 GB of weights, when a compiler is there. The bytes are the same.",
    )
    memory_budget_gb: float = Field(4.0, gt=0, description="Weights in flight on the device that computes, GB.")
    workers: int | None = Field(None, ge=1, description="Threads that read, compute and write; null: the cores, at most 16.")
    max_shard_gb: float = Field(4.0, gt=0, description="Largest shard written, GB.")


class EngineConfig(Section):
    """Checkpoint -> runtime bundle."""

    kind: Literal["llama.cpp"] = Field("llama.cpp", description="Engine; `llama.cpp` is embedded and runs on a CPU.")
    package: str = Field("llama-cpp-python", description="PyPI source package that vendors llama.cpp.")
    version: str = Field("0.3.36", description="Version of that package.")
    sha256: str = Field(
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e", description="sha256 of the package's source archive, hex."
    )
    build_jobs: int = Field(2, ge=1, description="Compiler processes at a time.")
    context: int = Field(1024, ge=128, description="Context per slot, tokens.")
    slots: int = Field(8, ge=1, description="Requests decoded together.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: all cores.")


class EvaluateConfig(Section):
    """Quality and speed of a served model."""

    max_items: int | None = Field(None, ge=1, description="Test items scored, taken evenly over labels; null: all.")
    max_new_tokens: int = Field(48, ge=1, description="Longest answer, tokens.")
    concurrency: list[int] = Field([1, 4], description="Concurrent requests of the speed runs.")
    speed_requests: int = Field(24, ge=4, description="Requests per speed run.")
    timeout_s: float = Field(120, gt=0, description="Longest wait for one answer, seconds.")
    label_key: str = Field("intent", description="Key of the answer's JSON that names the intent.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")


class NonInferiority(Section):
    """The candidate may be worse than the reference by less than `margin`."""

    against: Literal["champion", "merged"] = Field(description="Reference: the serving release, or the unquantized merge.")
    metric: Literal["exact_match", "intent_accuracy"] = Field(description="Per-item metric compared in pairs.")
    margin: float = Field(gt=0, lt=1, description="Largest loss accepted, share of items.")


class GateConfig(Section):
    """What a candidate must show before it is promoted."""

    floors: dict[str, float] = Field(
        {"exact_match": 0.80, "intent_accuracy": 0.88},
        description="Least value of each metric, share of items; applied always, and alone while there is no champion.",
    )
    non_inferiority: list[NonInferiority] = Field(
        default_factory=list, description="Paired tests; skipped when the reference does not exist."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided level of the paired tests.")
    max_bits_per_parameter: float | None = Field(
        None, gt=0, description="Most bits per quantized parameter; catches a format that is not what its label says."
    )


class DeployConfig(Section):
    """Where a passed candidate goes."""

    target: str = Field("local", description="A row of conf/deploy/.")
    kind: Literal["local"] = Field("local", description="Transport: `local` runs the engine on this machine.")
    root: str = Field(".slipway/targets/local", description="Folder of releases, pointer and logs.")
    host: str = Field("127.0.0.1", description="Address the engine listens on.")
    ports: tuple[int, int] = Field((8091, 8099), description="First and last port to use, inclusive; a new engine takes a free one.")
    start_timeout_s: float = Field(120, gt=0, description="Longest wait for a new engine's health, seconds.")
    smoke_requests: int = Field(3, ge=1, description="Test rows asked of the new engine before the switch.")
    keep_releases: int = Field(3, ge=2, description="Releases kept on the target, the serving one included.")


class StoreConfig(Section):
    """Where bytes live."""

    root: str = Field(".slipway", description="Artifacts, work folders and service data.")
    cache: str = Field("~/.cache/slipway", description="Downloads and engine builds, shared between clones.")


class TrackingConfig(Section):
    """MLflow."""

    uri: str = Field("http://127.0.0.1:5000", description="MLflow tracking server.")
    experiment: str = Field("finetune-and-ship", description="MLflow experiment.")


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
        raise ConfigError("override", " ".join(overrides), "key=value with a dotted key", "see `slipway run --help`") from err
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
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], 1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "run from the project's root, or pass --conf"
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
        near = difflib.get_close_matches(key.rsplit(".", 1)[-1], _keys_beside(key), 1)
        hint = f"did you mean {near[0]}?" if near else "`slipway config --help` lists the keys"
        return ConfigError(f"config key {key}", f"unknown, in {source}{more}", f"one of {', '.join(_keys_beside(key))}", hint)
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
