"""Config: layers, overrides, and errors that name the key."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from slipway.config.load import Config, line_name, load_config
from slipway.errors import ConfigError

CONF = Path("conf")


def test_the_shipped_config_loads_and_layers_win_over_defaults():
    config = load_config(CONF)
    assert config.quantize.format == "nvfp4a16"
    assert config.gate.non_inferiority, "conf/gates/embedded.yaml fills the gate"


def test_overrides_win_and_may_change_a_layer():
    config = load_config(CONF, ["train.lr=3.0e-4", "layers.quantize=formats/fp8", "train.max_steps=7"])
    assert (config.train.lr, config.quantize.format, config.train.max_steps) == (3e-4, "fp8", 7)


@pytest.mark.parametrize("said, meant", [("on", "on"), ("off", "off"), ("auto", "auto"), ('"off"', "off")])
def test_yaml_reads_on_and_off_as_booleans_and_they_are_taken(said, meant):
    assert load_config(CONF, [f"quantize.compile={said}"]).quantize.compile == meant


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=str)
def test_every_layer_loads(file):
    section = {"models": "model", "formats": "quantize", "gates": "gate", "targets": "target"}.get(
        file.parent.name, file.parent.name
    )
    load_config(CONF, [f"layers.{section}={file.parent.name}/{file.stem}"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lrr=1", r"config key train.lrr: unknown.*did you mean lr\?"),
        ("trian.lr=1", r"config key trian: unknown.*did you mean train\?"),
        ("train.lr=fast", r"config key train.lr: 'fast'.*valid number"),
        ("train.rank=0", r"config key train.rank: 0.*greater than or equal to 1"),
        ("layers.quantize=formats/fp9", r"config layer: conf/formats/fp9.yaml.*did you mean conf/formats/fp8.yaml\?"),
        ("model.source=directory", r"config section model: model.directory is empty"),
        (
            "train.tensor_parallel=2",
            r"config section train: train.tensor_parallel=2 would not be read: train.backend is cpu",
        ),
    ],
)
def test_bad_input_names_key_value_and_next_step(override, said):
    with pytest.raises(ConfigError, match=said):
        load_config(CONF, [override])


def test_every_field_says_what_it_is():
    def walk(model: type[BaseModel]):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation)

    walk(Config)


@pytest.mark.parametrize(
    ("data", "model", "line"),
    [
        ("home-intents", "smollm2-135m", "home-intents-smollm2-135m"),
        ("my rows: v1.2", "Llama-3.1/8B", "my-rows-v1-2-llama-3-1-8b"),
        ("100%", "a\"b'c_d", "100-a-b-c-d"),
        ("Gerät", "ﬁne", "gerät-fine"),
    ],
)
def test_the_line_joins_data_and_model_without_what_mlflow_forbids(data, model, line):
    assert line_name(data, model) == line
    assert not set(line) & set("/:.%\"'")


@pytest.mark.parametrize(("override", "key"), [("data.name='./'", "data.name"), ("model.name='::'", "model.name")])
def test_a_name_of_which_nothing_is_left_is_refused(override, key):
    with pytest.raises(ConfigError, match=rf"config key {key}: .*a letter or a digit"):
        load_config(CONF, [override])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "home-intents-smollm2-135m"),
        (["data.raw=rows/support.jsonl"], "support-smollm2-135m"),
        (["data.raw=rows/support.jsonl", "data.name=tickets"], "tickets-smollm2-135m"),
        (["data.name=tickets", "model.name=mine"], "tickets-mine"),
        (["data.seed=3"], "home-intents-smollm2-135m"),
    ],
)
def test_two_tasks_on_one_base_have_two_lines(overrides, line):
    assert load_config(CONF, overrides).line == line
