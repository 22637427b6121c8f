"""On PYTHONPATH with the folder above: every Python started is one for NeMo on a machine without a GPU."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import on_cpu  # noqa: F401
