"""Where a pass runs: threads by device, and a GPU that is asked for and missing."""

from __future__ import annotations

import os

import pytest
import torch

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ResourceError
from slipway.streaming.compute import Compute, workers
from slipway.system.progress import Progress


@pytest.mark.parametrize(
    "device, gigabytes, cores, wanted",
    [("cuda", 16, 64, 8), ("cuda", 141, 64, 4), ("cuda", 16, 2, 2), ("cpu", 16, 64, 16), ("cpu", 141, 3, 3)],
)
def test_workers_are_eight_on_a_gpu_four_for_a_large_model_and_a_core_each_on_a_cpu(
    monkeypatch, device, gigabytes, cores, wanted
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert workers(QuantizeConfig(), torch.device(device), gigabytes * 10**9) == wanted


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_number_of_workers_that_was_given_is_used(device):
    assert workers(QuantizeConfig(workers=9), torch.device(device), 10**9) == 9


def test_work_is_on_the_device_that_params_name():
    compute = Compute.of(QuantizeConfig(device="cpu", workers=3), 1000, Progress())
    assert (compute.device.type, compute.workers, compute.kernels.why) == ("cpu", 3, "eager: small model")


def test_a_gpu_that_is_asked_for_and_missing_is_one_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="torch sees no GPU"):
        Compute.of(QuantizeConfig(device="cuda"), 1000, Progress())
    assert Compute.of(QuantizeConfig(device="auto"), 1000, Progress()).device.type == "cpu"
