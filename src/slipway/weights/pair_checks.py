"""What a LoRA pair must be before it is merged: floating point, on a matrix, on a module that the config names.

PEFT puts pairs where adapter_config.json says, and passes over tensors for other modules with a warning: the model that
it loads is then another one than the file's tensors make. Which of the two was trained is not guessed.
"""

from __future__ import annotations

from slipway.errors import AdapterError
from slipway.weights.adapter_config import CONFIG, REFIT, RETRAIN, AdapterConfig
from slipway.weights.adapter_tensors import AdapterTensors, Part
from slipway.weights.base_names import BaseNames

_AGREE = (
    f"let target_modules, exclude_modules and layers_to_transform of {CONFIG} say what was trained, or remove the pair"
)


def require_matrix(tensors: AdapterTensors, base: BaseNames, part: Part, factors: tuple[str, str]) -> None:
    """Raise AdapterError for factors that are no floats, and for a pair on a module that Slipway merges none into.
    `factors`: names of lora_A and lora_B."""
    for name in factors:
        dtype = tensors.info(name).dtype
        if not dtype.is_floating_point:
            value = f"stored as {str(dtype).removeprefix('torch.')}: codes, of which the scales are not known"
            raise AdapterError(f"adapter tensor {name}", value, "floating point", "save the adapter in fp32 or bf16")
    shape, kind = list(tensors.info(factors[0]).shape), None
    if len(shape) > 2:
        kind = f"a convolution, lora_A {shape}"
    elif base.tensor(f"{part.module}.in_proj_weight"):
        kind = "a MultiheadAttention of torch, whose projections are one parameter"
    if kind:
        expected = "a pair on a Linear, a Conv1D of transformers, an embedding or stacked experts"
        raise AdapterError(f"adapter tensor {factors[0]}", f"a LoRA pair on {kind}", expected, RETRAIN)


def require_named(config: AdapterConfig, base: BaseNames, module: str, name: str) -> None:
    """Raise AdapterError for a pair on a module that the config does not put one on, by neither its name in the adapter
    nor its path in the class. `name`: of lora_A."""
    targets = config.get("target_modules")
    if targets is None or targets == "all-linear":
        return  # left out by trainers other than PEFT, which writes the modules it put one on
    if config.get("ensure_weight_tying") and base.has_vocabulary(f"{module}.weight"):
        return  # PEFT puts one on the head too when it is on the embedding, and names the embedding alone
    paths = (module, base.path(f"{module}.weight"))
    parameters = tuple(f".{parameter}" for parameter in config.get("target_parameters") or ())
    if any(f".{path}.weight".endswith(parameters) for path in paths):
        return  # a router, which is no Linear of the class: PEFT's all-linear writes `gate.weight`
    if not any(config.targets(path) for path in paths):
        value = f"a pair on {module}, where {CONFIG} puts none: PEFT passes over it"
        raise AdapterError(f"adapter tensor {name}", value, "pairs on the modules that the config names", _AGREE)


def require_bias_of_pair(config: AdapterConfig, has_pair: bool, name: str) -> None:
    """Raise AdapterError for a bias of lora_B that the config does not have, or that stands alone."""
    if not config.get("lora_bias"):
        expected = f"none: lora_bias is off in {CONFIG}, and PEFT passes over it"
        raise AdapterError(f"adapter tensor {name}", "a bias of lora_B", expected, REFIT)
    if not has_pair:
        raise AdapterError(f"adapter tensor {name}", "has no lora_B beside it", "a pair of lora_A and lora_B", REFIT)
