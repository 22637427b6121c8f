"""This room needs a GPU, and says so at once instead of skipping."""

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    if not torch.cuda.is_available():
        raise pytest.UsageError(
            "tests/gpu needs a GPU and torch sees none: run it on a machine with one; `make test` runs the other rooms"
        )
    config.addinivalue_line(
        "filterwarnings", "default"
    )  # GPU machines bring a torch of their own, with warnings of its own
