"""Which recomputation runs with which method, and that nothing else is rendered, advised or probed."""

import pytest

from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.nemo.recomputation import check_recomputation, recomputations


def params(method, how):
    return TrainConfig(backend="nemo", method=method, activation_checkpointing=how)


@pytest.mark.parametrize("method", ["lora", "qlora", "sft"])
def test_every_listed_recomputation_passes_and_full_is_always_there(method):
    for how in recomputations(method):
        check_recomputation(params(method, how))
    assert recomputations(method)[0] == "none" and recomputations(method)[-1] == "full"


def test_selective_with_lora_is_refused_with_upstreams_words_and_a_way_out():
    with pytest.raises(ConfigError, match=r"selective with method=lora.*has been mutated.*checkpointing=full"):
        check_recomputation(params("lora", "selective"))
