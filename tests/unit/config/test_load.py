"""Config: layers, overrides, and errors that name the key."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from slipway.config.data import DataConfig
from slipway.config.layers import PRESETS
from slipway.config.load import Config, line_name, load_config, parse, section
from slipway.errors import ConfigError

CONF = Path("conf")


def test_the_shipped_config_loads_and_layers_win_over_defaults():
    config = load_config(CONF)
    assert config.quantize.format == "nvfp4a16"
    assert config.gate.non_inferiority, "conf/gates/embedded.yaml fills the gate"


def test_overrides_win_and_may_change_a_layer():
    config = load_config(CONF, ["train.lr=3.0e-4", "layers.quantize=formats/fp8", "train.max_steps=7"])
    assert (config.train.lr, config.quantize.format, config.train.max_steps) == (3e-4, "fp8", 7)


@pytest.mark.parametrize("word, switch", [("on", "on"), ("off", "off"), ("auto", "auto"), ('"off"', "off")])
def test_yaml_reads_on_and_off_as_booleans_and_they_are_taken(word, switch):
    assert load_config(CONF, [f"quantize.compile={word}"]).quantize.compile == switch


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=str)
def test_every_layer_loads(file):
    section = {"models": "model", "formats": "quantize", "gates": "gate", "targets": "target"}.get(
        file.parent.name, file.parent.name
    )
    preset = file.parent.name == PRESETS
    load_config(CONF, [f"layers={file.stem}" if preset else f"layers.{section}={file.parent.name}/{file.stem}"])


def test_the_quick_run_is_a_line_and_a_target_of_its_own():
    ship, smoke = load_config(CONF), load_config(CONF, ["layers=smoke"])
    assert (smoke.line, smoke.deploy.target) == ("home-smoke-smollm2-135m", "smoke")
    assert smoke.line != ship.line
    assert smoke.deploy.root != ship.deploy.root
    assert not set(range(smoke.deploy.ports[0], smoke.deploy.ports[1] + 1)) & set(range(ship.deploy.ports[0], 8100))
    assert len(smoke.data.labels) == 12
    assert set(smoke.gate.floors) == {"json_exact", "label_accuracy"}
    assert min(smoke.gate.floors.values()) > 0
    assert load_config(CONF, ["layers=smoke", "train.epochs=3"]).train.epochs == 3


@pytest.mark.parametrize(
    ("override", "message"),
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
def test_bad_input_names_key_value_and_next_step(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONF, [override])


def test_defaults_and_the_shipped_config_lie_within_their_own_bounds():
    """pydantic validates what is given, not what a field falls back to."""
    for config in (Config(), load_config(CONF)):
        given = {name: value for name, value in config.model_dump().items() if name != "train"}
        assert parse(given, "a test") == config.model_copy(update={"train": Config().train})
        train = config.train.model_dump()
        assert parse({"train": train}, "a test").train == config.train


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


@pytest.mark.parametrize(
    "text", ["Task: answer", "yes", "3", "- one", "{intent}", "a # b", "1.0e3", "2024-01-01", "'tis", "x: [", "@home"]
)
def test_text_on_the_command_line_stays_text(text):
    assert load_config(CONF, [f"data.system={text}"]).data.system == text


@pytest.mark.parametrize(("word", "value"), [("null", None), ("", None), ("'null'", "null"), ('"a: b"', "a: b")])
def test_null_and_quotes_mean_what_they_do_in_yaml(word, value):
    assert load_config(CONF, [f"data.system={word}"]).data.system == value


def test_the_caps_of_the_default_corpus_are_not_those_of_other_data(tmp_path):
    home, own = load_config(CONF).data, load_config(CONF, ["data.raw=rows.jsonl", "data.seed=3"]).data
    assert (home.label_key, home.per_label is None, home.max_tokens) == ("intent", False, 512)
    assert own == DataConfig(raw="rows.jsonl", seed=3)
    given = load_config(CONF, [], {"data": {"raw": "rows.jsonl"}}).data
    assert (given.per_label, given.val_per_label, given.test_per_label, given.label_key) == (None,) * 4
    smoke = load_config(CONF, ["layers=smoke", "data.raw=rows.jsonl"]).data
    assert smoke.labels is None
    chosen = load_config(CONF, ["layers.data=data/home", "data.raw=rows.jsonl"]).data
    assert chosen.per_label == home.per_label
    assert load_config(CONF, [f"data.raw={home.raw}"]).data.per_label == home.per_label


def test_an_empty_mapping_clears_what_lower_layers_put_there():
    assert load_config(CONF).gate.floors
    assert load_config(CONF, ["gate.floors={}"]).gate.floors == {}
    assert load_config(CONF, ["gate.floors={}", "gate.floors.chrf=0.3"]).gate.floors == {"chrf": 0.3}
    assert load_config(CONF, ["gate.floors.chrf=0.3"]).gate.floors.keys() > {"chrf"}
    assert load_config(CONF, [], {"gate": {"floors": {}}}).gate.floors == {}
    assert load_config(CONF, [], {"gate": {}}).gate.floors


def test_the_gate_of_the_default_data_is_not_that_of_other_data():
    """Floors belong to a data set; a gate that is named stays, whatever the data."""
    embedded, other = load_config(CONF).gate, load_config(CONF, ["data.raw=mine.jsonl"]).gate
    assert embedded.floors
    assert other.floors == {}
    assert {rule.metric for rule in other.non_inferiority} == {"primary"}
    assert load_config(CONF, ["layers.data=data/smoke"]).gate == other
    assert load_config(CONF, ["layers.data=data/spelling"]).gate.floors.keys() == {"primary"}
    assert load_config(CONF, ["layers=smoke", "data.raw=mine.jsonl"]).gate == other
    assert load_config(CONF, ["data.raw=mine.jsonl", "layers.gate=gates/embedded"]).gate == embedded
    assert load_config(CONF, ["layers=smoke"]).gate.floors
    assert load_config(CONF, ["data.raw=mine.jsonl", "gate.floors={chrf: 0.4}"]).gate.floors == {"chrf": 0.4}


def test_the_application_of_a_preset_goes_with_the_data_of_its_layers_alone():
    """What `make ship` adds is about smart-home commands: rows of another task are no tasks of its agent."""
    plain, app = load_config(CONF), load_config(CONF, ["layers=app"])
    assert (plain.rag.arm, plain.agent.kind) == (None, "off")
    assert (app.rag.arm, app.agent.kind, app.agent.tasks) == ("window/dense", "intents", 60)
    assert app.rag.answers and (app.rag.answers.items, app.rag.answers.context_tokens) == (40, 512)
    assert app.gate.floors.keys() - plain.gate.floors.keys() == {"rag_recall", "agent_success", "agent_acted_unasked"}
    assert app.gate.min_items <= 14 < plain.gate.min_items, "of 60 tasks 14 must change nothing"
    paired = [rule for rule in app.gate.non_inferiority if rule.metric != "rag_recall"]
    assert paired == plain.gate.non_inferiority != app.gate.non_inferiority
    for words in (["layers.data=data/languages"], ["data.raw=mine.jsonl"], ["layers.data=data/smoke"]):
        assert load_config(CONF, ["layers=app", *words]) == load_config(CONF, words), words
    given = {"layers": "app", "data": {"raw": "mine.jsonl"}}
    assert load_config(CONF, [], given) == load_config(CONF, ["data.raw=mine.jsonl"])
    assert load_config(CONF, ["layers.agent=agent/small", "data.raw=mine.jsonl"]).agent.kind == "intents"
    assert load_config(CONF, ["layers=app", "layers.data=data/home"]) == app
    smoke = load_config(CONF, ["layers=app", "layers=smoke"])
    assert (smoke.agent.kind, smoke.gate) == ("intents", load_config(CONF, ["layers=smoke"]).gate)


def test_a_pattern_and_paths_on_the_command_line_are_text():
    """As YAML `#` begins a comment, and `[0-9]+` is no list of one word."""
    words = [r"evaluate.pattern=#### (\d+)", "evaluate.json_schema=a: b.json", "evaluate.judge.url=http://h:1/v1"]
    evaluate = load_config(CONF, [*words, "evaluate.judge.model=1.5"]).evaluate
    assert (evaluate.pattern, evaluate.json_schema) == (r"#### (\d+)", "a: b.json")
    assert (evaluate.judge.url, evaluate.judge.model) == ("http://h:1/v1", "1.5")
    assert load_config(CONF, ["evaluate.pattern=[0-9]+"]).evaluate.pattern == "[0-9]+"
    assert load_config(CONF, ["evaluate.pattern=null"]).evaluate.pattern is None


def test_a_list_of_texts_on_the_command_line_is_a_list():
    config = load_config(CONF, ["quantize.exclude=[lm_head,'*down_proj*']", "evaluate.metrics=[exact, chrf]"])
    assert config.quantize.exclude == ["lm_head", "*down_proj*"]
    assert list(config.evaluate.metrics) == ["exact", "chrf"]


@pytest.mark.parametrize("value", ["0", "1.50", "yes", "1e3", "a: b", "0x1F"])
def test_a_variable_of_the_environment_is_the_text_that_was_typed(value):
    """Also where one section is given by itself, whose words do not name it."""
    assert section("engine", {}, [f"environment.NAME={value}"]).environment == {"NAME": value}
    assert load_config(CONF, [f"engine.environment.NAME={value}"]).engine.environment == {"NAME": value}


def test_a_number_where_text_belongs_says_how_to_write_it():
    with pytest.raises(ConfigError, match=r"engine\.environment\.NAME: 0,.* write it as text, in quotes: NAME: '0'"):
        load_config(CONF, given={"engine": {"environment": {"NAME": 0}}})
