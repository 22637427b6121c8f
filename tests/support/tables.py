"""Small tables of rows, made as a pass over a file makes them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway.config.data import DataConfig
from slipway.data.clean import complete
from slipway.data.row_table import I64, RowTable, TableBuilder
from slipway.data.rows import NumberedRow, Row


def chat(ask: str, answer: str = "ok", system: str | None = None, **more: Any) -> Row:
    """A row of one turn."""
    messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *messages], **more}


def table(rows: Sequence[Row], config: DataConfig | None = None) -> RowTable:
    """The table of rows, numbered from 1."""
    config = config or DataConfig()
    builder = TableBuilder(Path(tempfile.gettempdir()), config.seed)
    for number, row in enumerate(rows, start=1):
        builder.add(number, complete(NumberedRow(number, row), config), named="template" in row)
    return builder.finish()


def every(of: RowTable) -> I64:
    """All its rows."""
    return np.arange(len(of))
