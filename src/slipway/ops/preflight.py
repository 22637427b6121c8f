"""What can be refused before any work."""

from __future__ import annotations

from slipway.config.load import Config
from slipway.containers.images import pinned
from slipway.runners.choose import runner_for
from slipway.training.nemo.params import nemo_train_params, refuse_sft
from slipway.training.nemo.rules import check_rules


def refuse_early(config: Config) -> None:
    """Before any work: what the target or the pipeline cannot train, as far as it can be told without the data, an image that
    is not pinned, and a runner that is not installed. Raises ConfigError or ResourceError."""
    if config.train.backend == "nemo":
        params = nemo_train_params(config)
        refuse_sft(params.train)
        check_rules(params.model, params.train, params.target, None)
        if params.image:
            pinned(params.image, params.target.arch)
        runner_for(params.target, params.image)
