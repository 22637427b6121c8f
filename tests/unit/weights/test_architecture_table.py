"""The table says of every verified class what the installed transformers says of it."""

from pathlib import Path

import pytest
from safetensors import safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from scripts.architectures import formatted, source
from slipway.weights import architecture_table
from slipway.weights.architecture_table import ARCHITECTURES
from tests.support.families import FAMILIES, random_model


def test_the_table_is_what_the_script_writes_with_this_transformers():
    assert Path(architecture_table.__file__).read_text(encoding="utf-8") == formatted(source())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stored_name_goes_where_transformers_puts_it(name, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path)
    transforms, parameters = get_model_conversion_mapping(model), model.state_dict()
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    row = ARCHITECTURES[type(model).__name__]
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = list(file.keys())
    for tensor in [*stored, *(key.removeprefix("model.") for key in stored)]:
        theirs, _ = rename_source_key(tensor, renamings, converters, model.base_model_prefix, parameters)
        if theirs in parameters and parameters[theirs].dim() > 1:
            assert row.path(tensor) == theirs.removesuffix(".weight").removesuffix(".bias")
