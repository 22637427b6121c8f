"""Parameters through Prefect: partial configs over `conf/`, the form's defaults, and what its schema refuses."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, create_model

from slipway.config.form import ConfigForm, OverridesForm, form_defaults, run_config
from slipway.config.gate import GateConfig
from slipway.config.load import Config, load_config
from slipway.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")
CONF = Path("conf")
SHIPPED = load_config(CONF)
FORM = form_defaults(SHIPPED)


@functools.cache
def schema() -> dict[str, Any]:
    """As Prefect makes it from a flow's signature."""
    fields = {
        "config": (Annotated[Any, ConfigForm(FORM)], FORM),
        "overrides": (Annotated[Any, OverridesForm()], ()),
    }
    return TypeAdapter(create_model("Parameters", **fields)).json_schema()  # type: ignore[call-overload,no-any-return]


def refused(parameters: dict[str, Any]) -> list[str]:
    return [e.message for e in jsonschema.Draft202012Validator(schema()).iter_errors(parameters)]


def test_a_partial_config_is_the_command_line_in_another_spelling():
    given = run_config(CONF, {"train": {"epochs": 2}, "quantize": {"calibration": {"samples": 8}}})
    assert given == load_config(CONF, ["train.epochs=2", "quantize.calibration.samples=8"])
    assert given.train.lr == SHIPPED.train.lr != type(given.train)().lr, "what is not named stays as conf/ says"


def test_layers_may_stand_in_the_parameters():
    given = run_config(CONF, {"layers": {"quantize": "formats/fp8"}, "quantize": {"layout": "modelopt"}})
    assert given == load_config(CONF, ["layers.quantize=formats/fp8", "quantize.layout=modelopt"])


def test_overrides_win_over_a_partial_config():
    given = run_config(CONF, {"train": {"epochs": 2, "seed": 3}}, ["train.epochs=4", "layers.quantize=formats/mxfp4"])
    assert (given.train.epochs, given.train.seed, given.quantize.format) == (4, 3, "mxfp4")


def test_nothing_given_is_conf_and_a_whole_config_stays_itself():
    other = SHIPPED.model_copy(update={"gate": GateConfig()})
    assert run_config(CONF, None) == run_config(CONF, {}) == run_config(CONF, FORM) == SHIPPED
    assert run_config(CONF, other) is other
    assert run_config(CONF, other.model_dump(mode="json")) == other


def test_the_untouched_defaults_of_a_sent_form_do_not_hide_a_layer():
    form = FORM | {"layers": {"quantize": "formats/fp8"}}
    assert run_config(CONF, form) == load_config(CONF, ["layers.quantize=formats/fp8"])
    edited = form | {"quantize": {**FORM["quantize"], "method": "mse", "format": "mxfp4"}}
    assert run_config(CONF, edited) == load_config(
        CONF, ["layers.quantize=formats/fp8", "quantize.method=mse", "quantize.format=mxfp4"]
    )


@pytest.mark.parametrize(
    ("given", "overrides", "message"),
    [
        ({"train": {"epoch": 2}}, [], r"config key train\.epoch: unknown.*did you mean epochs\?"),
        ({"trian": {}}, [], r"config key trian: unknown"),
        ({"train": None}, [], r"config key train: None"),
        ([1], [], r"parameter config: list"),
        ({"layers": {"train": 5}}, [], r"layers\.train: 5"),
        ({"layers": ["a"]}, [], r"layers in the parameters"),
        ({}, ["train.epochs"], r"'train\.epochs': no dotted key"),
        (SHIPPED, ["train.epochs=1"], r"overrides: .*none beside a whole config"),
    ],
)
def test_what_is_not_understood_is_one_error(given, overrides, message):
    with pytest.raises(ConfigError, match=message):
        run_config(CONF, given, overrides)


def test_the_schema_shows_the_resolved_defaults_of_conf():
    doc = schema()
    assert doc["properties"]["config"]["default"] == FORM
    assert doc["$defs"]["TrainConfig"]["properties"]["lr"]["default"] == SHIPPED.train.lr
    assert doc["$defs"]["CalibrationConfig"]["properties"]["samples"]["default"] == SHIPPED.quantize.calibration.samples
    assert doc["$defs"]["SlurmConfig"]["properties"]["lease_s"]["default"] == 120


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": {"train": {"epochs": 2}}},
        {"config": {"layers": "smoke"}},
        {"config": {"layers": {"quantize": "formats/fp8"}}},
        {"config": {"target": {"runner": {"image": "nemo-automodel"}}}},
        {"config": {"tracking": {"uri": "http://${oc.env:USER}:${oc.env:PASSWORD}@host"}}},
        {"config": FORM, "overrides": ["train.epochs=2", "tracking.uri=${oc.env:MLFLOW}"]},
    ],
    ids=str,
)
def test_the_schema_takes_partial_values(parameters):
    assert refused(parameters) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": {"train": {"epoch": 2}}},
        {"config": {"train": {"lr": -1}}},
        {"config": {"layers": 5}},
        {"config": {"tracking": {"uri": "http://ann:pw@host"}}},
        {"config": {"tracking": {"uri": "http://token@host"}}},
        {"config": {"tracking": {"uri": "postgresql://h/db?password=pw"}}},
        {"overrides": ["tracking.uri=http://ann:pw@host"]},
        {"overrides": "train.epochs=2"},
    ],
    ids=str,
)
def test_the_schema_refuses_unknown_keys_wrong_values_and_literal_credentials(parameters):
    assert refused(parameters)


def test_credentials_of_conf_are_not_in_the_form(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_URI", "http://ann:s3cret-word@host:5000")
    (tmp_path / "base.yaml").write_text("tracking: {uri: '${oc.env:SOME_URI}', experiment: mine}\n")
    config = load_config(tmp_path)
    form = form_defaults(config)
    assert form["tracking"] == {"experiment": "mine"}
    assert "s3cret-word" not in repr(form)
    again = run_config(tmp_path, form)
    assert again.tracking.uri.get_secret_value() == "http://ann:s3cret-word@host:5000"
    assert isinstance(again, Config)
