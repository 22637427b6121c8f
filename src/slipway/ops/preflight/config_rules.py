"""What can be refused before any work. Short because the rules themselves lie with what they are about."""

from __future__ import annotations

from pathlib import Path

from slipway.config.load import Config
from slipway.containers.images import pinned
from slipway.engines.llamacpp.config_support import require_config_support
from slipway.engines.llamacpp.nvfp4_support import require_nvfp4_class
from slipway.errors import CheckpointError, ConfigError
from slipway.evaluation.agent_tasks import METRICS as AGENT
from slipway.evaluation.gate_check import check_gate
from slipway.evaluation.metric import Metric
from slipway.evaluation.retrieval_metrics import METRICS as RETRIEVAL
from slipway.ops.surroundings import require_writable
from slipway.rag.answer_metrics import METRICS as ANSWERS
from slipway.runners.choose import runner_for
from slipway.stages.agent_eval import params_of as agent_params
from slipway.stages.evaluate import params_of as evaluate_params
from slipway.training.nemo.params import nemo_train_params
from slipway.training.nemo.rules import check_rules
from slipway.weights.model_config import CONFIG, read_config


def refuse_early(config: Config) -> None:
    """Check a config before any work is done for it: without data and without asking a machine.

    Raises CheckpointError for a model directory that is none; DataError for tasks of an agent that are none;
    ConfigError for a home that is none, for answers that the engine has no room for, for a metric that does not exist
    or lacks its settings, for a gate on one that is not measured, for a NeMo recipe that breaks a rule
    (`training.nemo.rules`), and for an image without a row or without a digest; ResourceError for a runner whose Python
    package is not installed, and for a store or a cache that this user cannot write. The embedded trainer checks what
    it needs itself.
    """
    _check_remote(config)
    require_writable("store.root", config.store.root)
    require_writable("store.cache", config.store.cache)
    _check_model_directory(config)
    evaluate_params(config, speed=False)
    if config.agent.kind != "off":
        agent_params(config)
    check_gate(config.gate, config.evaluate, [one.name for one in _beside(config)])
    _check_embedded_engine(config)
    _check_answers(config)
    if config.train.backend == "nemo":
        params = nemo_train_params(config)
        check_rules(params.model, params.train, params.target, None)
        if params.image:
            pinned(params.image, params.target.arch)
        if config.remote.host is None:
            runner_for(params.target, params.image)


def _beside(config: Config) -> list[Metric]:
    """Metrics of what a run evaluates beside the model's own answers."""
    agent = AGENT if config.agent.kind != "off" else ()
    retrieval = RETRIEVAL if config.rag.arm else ()
    return [*agent, *retrieval, *(ANSWERS if config.rag.arm and config.rag.answers else ())]


def _check_remote(config: Config) -> None:
    """Engines that are made on another machine are promoted there (`deployment/bundle/release.py`)."""
    if config.remote.host is not None and config.deploy.kind != "spark" and config.deploy.target != "auto":
        raise ConfigError(
            "remote.host",
            f"{config.remote.host}, with deploy.kind={config.deploy.kind}",
            "a target on the machine that the stages run on: the engine's files stay there",
            "layers.deploy=deploy/spark, for that machine; or leave remote.host out",
        )


def _check_model_directory(config: Config) -> None:
    """What the stage `fetch` would refuse first; it reads the weights too."""
    if config.model.source != "directory" or config.model.directory is None:
        return
    directory = Path(config.model.directory).expanduser().absolute()
    if not (directory / CONFIG).is_file():
        value = f"{directory} has no {CONFIG}" if directory.is_dir() else f"{directory} does not exist"
        next_step = "set model.directory to a Hugging Face model directory with safetensors"
        raise CheckpointError("model.directory", value, "a Hugging Face model directory", next_step)


def _check_answers(config: Config) -> None:
    """What the stage `answer_eval` would meet when everything is trained and quantized."""
    answers = config.rag.answers
    if answers is None:
        return
    if config.rag.arm is None:
        raise ConfigError("rag.answers", "without rag.arm", "an arm to retrieve by", "layers.rag=rag/embedded")
    wanted = answers.context_tokens + answers.max_new_tokens
    if wanted > config.engine.context:
        value = f"{answers.context_tokens} tokens of passages and {answers.max_new_tokens} of answer"
        expected = f"less than engine.context={config.engine.context}, with room for the question"
        raise ConfigError("rag.answers", value, expected, "lower rag.answers.context_tokens, or raise engine.context")
    if config.remote.host is not None and config.rag.embedder.source == "directory":
        expected = "an embedder that the machine of remote.host has too"
        raise ConfigError("rag.embedder", "a directory of this machine", expected, "rag.embedder.source=package or url")


def _check_embedded_engine(config: Config) -> None:
    """What the stage `engine` would refuse after hours, where the model lies on this machine already."""
    directory = config.model.directory
    if config.engine.kind != "llama.cpp" or directory is None or not (Path(directory) / CONFIG).is_file():
        return
    model = read_config(Path(directory))
    require_config_support(model, config.engine.context)
    if config.quantize.format.startswith("nvfp4"):
        require_nvfp4_class(model)
