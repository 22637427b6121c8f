"""`slipway recipe`: YAML alone on stdout, exit 2 with the reason when refused, names with their choices."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError
from slipway.training.nemo.request import resolve_recipe

CONF = Path("conf")


def run(*words):
    return CliRunner().invoke(app, ["recipe", *words])


def test_stdout_is_the_recipe_and_nothing_else():
    shown = run("--model", "llama-3.3-70b", "--method", "qlora", "--target", "spark", "train.max_steps=500")
    assert shown.exit_code == 0
    document = yaml.safe_load(shown.stdout)
    assert document["step_scheduler"]["max_steps"] == 500
    assert document["model"]["pretrained_model_name_or_path"] == "/models/llama-3.3-70b-instruct"
    assert "train/nemo-qlora on 1 GPU(s) of spark: about 49 of 108 GB on each" in shown.stderr
    assert "GB" not in shown.stdout


def test_json_carries_recipe_row_and_memory():
    document = json.loads(run("--json", "--method", "lora").stdout)
    assert document["train_row"] == "nemo-lora"
    assert document["memory_gb"]["room"] == 108
    assert document["recipe"]["recipe"] == "TrainFinetuneRecipeForNextTokenPrediction"


def test_an_override_of_the_train_section_reaches_the_row_that_is_chosen():
    resolved = resolve_recipe(CONF, "llama-3.3-70b", "lora", "dgx-h100", None, ["train.tensor_parallel=4"])
    assert (resolved.row, resolved.recipe["distributed"]["tp_size"]) == ("nemo-lora-fsdp2", 4)


def test_a_named_row_brings_its_method():
    assert "quantization" not in resolve_recipe(CONF, "smollm2-135m", None, "spark", "nemo-lora", []).recipe
    with pytest.raises(ConfigError, match=r"--method: qlora; expected lora, the method of train/nemo-lora"):
        resolve_recipe(CONF, "smollm2-135m", "qlora", "spark", "nemo-lora", [])


def test_a_machine_without_containers_sees_its_own_paths():
    resolved = resolve_recipe(CONF, "llama-3.1-8b", "qlora", "local", None, [])
    assert resolved.recipe["model"]["pretrained_model_name_or_path"] == "models/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model", "lama-3.3-70b"],
            r"conf/models: lama-3.3-70b; expected one of llama-3.1-8b, .*did you mean llama-3.3-70b\?",
        ),
        (["--target", "sparc"], r"conf/targets: sparc.*did you mean spark\?"),
        (["--train", "nemo-lroa"], r"conf/train: nemo-lroa.*did you mean nemo-lora\?"),
        (["--method", "lore"], r"--method: lore; expected one of qlora, lora, sft.*did you mean lora\?"),
        (["train.thraeds=2"], r"train.thraeds: unknown.*did you mean threads\?"),
        (["train.threads=2"], r"train.threads=2 would not be read: train.backend is nemo"),
        (["--train", "qlora-cpu"], r"train.backend: cpu; expected nemo"),
        (
            ["--model", "llama-3.3-70b", "--method", "sft", "--target", "spark"],
            r"memory for sft of llama-3.3-70b-instruct",
        ),
    ],
)
def test_a_refusal_names_thing_choices_and_next_step(words, message):
    shown = run(*words)
    assert isinstance(shown.exception, ConfigError)
    assert shown.exception.exit_code == 2
    assert shown.stdout == ""
    with pytest.raises(ConfigError, match=message):
        raise shown.exception


def test_a_directory_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 12}))
    with pytest.raises(ConfigError, match=r"model.layers: 32; expected 12"):
        resolve_recipe(CONF, "llama-3.1-8b", "qlora", "spark", None, [f"model.directory={tmp_path}"])
