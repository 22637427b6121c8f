"""The train section: what differs between the two trainers, and keys that one of them would not read."""

import pytest
from pydantic import ValidationError

from slipway.config.model import ModelConfig
from slipway.config.train import NEMO_DEFAULTS, TrainConfig


def test_a_gpu_gets_safe_defaults_and_the_cpu_keeps_its_own():
    cpu, nemo = TrainConfig(), TrainConfig(backend="nemo")
    assert (cpu.activation_checkpointing, cpu.pack_length, cpu.keep_checkpoints) == ("none", 512, 2)
    assert (nemo.activation_checkpointing, nemo.pack_length, nemo.keep_checkpoints) == ("full", 2048, 3)
    assert (nemo.packing, nemo.micro_batch, nemo.checkpoint_every, nemo.epochs, nemo.truncate) == (
        "neat",
        1,
        50,
        1.0,
        False,
    )


def test_what_is_given_wins_over_the_safe_defaults():
    given = {
        "activation_checkpointing": "none",
        "pack_length": 64,
        "lr": 3e-4,
        "weight_decay": 0.0,
        "keep_checkpoints": 9,
    }
    assert given.keys() == NEMO_DEFAULTS.keys()
    assert (
        TrainConfig(backend="nemo", **given).model_dump() | given == TrainConfig(backend="nemo", **given).model_dump()
    )


@pytest.mark.parametrize(
    "params", [TrainConfig(), TrainConfig(backend="nemo", method="lora", tensor_parallel=2)], ids=lambda p: p.backend
)
def test_a_section_written_to_a_job_file_reads_back_the_same(params):
    assert TrainConfig.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"backend": "nemo", "threads": 2},
            r"train.threads=2 would not be read: train.backend is nemo; leave it at None",
        ),
        ({"backend": "nemo", "accumulate": 4}, r"train.accumulate=4 would not be read"),
        ({"attention": "eager"}, r"train.attention=eager would not be read: train.backend is cpu; leave it at sdpa"),
        ({"tensor_parallel": 2}, r"train.tensor_parallel=2 would not be read"),
        ({"packing": "thd"}, r"train.packing=thd would not be read"),
        ({"activation_checkpointing": "selective"}, r"selective needs train.backend=nemo"),
    ],
)
def test_a_key_that_the_backend_would_not_read_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**keys)


def test_a_directory_model_names_its_directory():
    with pytest.raises(ValidationError, match=r"model.directory is empty"):
        ModelConfig(source="directory")
