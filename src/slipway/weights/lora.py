"""PEFT LoRA adapters: which base tensor each pair updates, and the one rounding convention of a merge.

    delta = fp32(s * sum_k B[i, k] A[k, j])         A [r, in], B [out, r], W [out, in]
    W'    = bf16(fp32(fp32(W) + delta))
    s     = alpha / r,  or alpha / sqrt(r) with use_rslora, computed in fp64

The merge is the correctly rounded one: the sum over the rank and its product with the fp64 value of s are exact, and
delta is that number rounded once to fp32 (to nearest, ties to even; a zero is +0). The factors are fp32, or fp16 or
bf16, which fp32 holds exactly; of an fp64 factor its fp32 rounding counts. So the bytes depend on neither the
processor, the BLAS, the number of threads, nor the rows that are merged at a time (`rounded_merge` has the way there).
PEFT's merge into the base upcast to fp32 sums in fp32 in an order of its own: rounded to bf16 it is at most one step
away, and in few elements. Adding in bf16 (PEFT's merge into a bf16 base) rounds twice and gives other bits.

`rank_pattern` and `alpha_pattern` override r and alpha per module, `fan_in_fan_out` means W is stored [in, out],
`modules_to_save` replaces whole tensors. Everything else that changes what a merge means is refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, Shards, TensorSource

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_HANDLED = {
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "modules_to_save",
    "bias",
}
_WITHOUT_EFFECT_ON_A_MERGE = {
    "alora_invocation_string",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
_CHANGES_THE_BASE = (
    "pissa",
    "olora",
    "corda",
    "loftq",
    "lora_ga",
)  # initialisations that subtract from the base weights
_REFIT = "check that this adapter was trained on this base model"
_RETRAIN = "merge it with PEFT itself and use the result as model.directory, or train without it"


@dataclass(frozen=True)
class Update:
    """One base tensor's change: a scaled pair, or a whole replacement. Names are those in the adapter's file."""

    a: str | None = None
    b: str | None = None
    scaling: float = 1.0
    replacement: str | None = None


class LoraAdapter:
    """A PEFT adapter directory. Raises AdapterError, naming key or tensor, for whatever cannot be merged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = _read_config(directory)
        try:
            self._shards = Shards.open_file(directory / WEIGHTS)
        except CheckpointError as err:
            raise AdapterError(err.thing, err.value, err.expected, err.next_step) from err

    def names(self) -> list[str]:
        """Names of the adapter's tensors, as stored."""
        return self._shards.names()

    def read(self, name: str) -> torch.Tensor:
        """One adapter tensor in fp32. Raises AdapterError when it holds NaN or Inf."""
        try:
            return self._shards.read(name).float()
        except CheckpointError as err:
            raise AdapterError(
                err.thing, err.value, err.expected, "train again with a lower learning rate, or copy the file again"
            ) from err

    def match(self, base: TensorSource) -> dict[str, Update]:
        """Base tensor -> its update. Every adapter tensor must land on a base tensor of matching shape."""
        updates: dict[str, Update] = {}
        bases = set(base.names())
        for name in self.names():
            match = _PAIR.fullmatch(name.removeprefix(_PREFIX))
            target = f"{match['module']}.weight" if match else self._saved_target(name)
            if target not in bases:
                raise AdapterError(
                    f"adapter tensor {name}",
                    f"lands on {target}, which the base does not have",
                    "a base tensor",
                    _REFIT,
                )
            if match is None:
                self._check_shape(name, target, self._shards.info(name).shape, base)
                updates[target] = Update(replacement=name)
            elif match["side"] == "A":
                updates[target] = self._pair(match["module"], name, target, base)
            elif name.replace(".lora_B.", ".lora_A.") not in self._shards:
                raise AdapterError(
                    f"adapter tensor {name}", "has no lora_A beside it", "a pair of lora_A and lora_B", _REFIT
                )
        return updates

    def _pair(self, module: str, a: str, target: str, base: TensorSource) -> Update:
        b = a.replace(".lora_A.", ".lora_B.")
        if b not in self._shards:
            raise AdapterError(f"adapter tensor {a}", "has no lora_B beside it", "a pair of lora_A and lora_B", _REFIT)
        shape_a, shape_b = self._shards.info(a).shape, self._shards.info(b).shape
        rank = self.rank(module)
        if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != rank or shape_b[1] != rank:
            raise AdapterError(
                f"adapter tensor {a}",
                f"{list(shape_a)} with lora_B {list(shape_b)}",
                f"rank {rank} by {CONFIG}",
                _REFIT,
            )
        delta = (shape_b[0], shape_a[1])
        self._check_shape(a, target, delta[::-1] if self.config.get("fan_in_fan_out") else delta, base)
        return Update(a, b, self.scaling(module))

    def _check_shape(self, name: str, target: str, shape: tuple[int, ...], base: TensorSource) -> None:
        if shape != base.info(target).shape:
            expected = f"{list(base.info(target).shape)}, the shape of {target}"
            raise AdapterError(f"adapter tensor {name}", f"makes {list(shape)}", expected, _REFIT)

    def _saved_target(self, name: str) -> str:
        target = name.removeprefix(_PREFIX)
        module = target.rsplit(".", 1)[0]
        if any(module == saved or module.endswith(f".{saved}") for saved in self.config.get("modules_to_save") or ()):
            return target
        raise AdapterError(
            f"adapter tensor {name}",
            "neither lora_A, lora_B nor in modules_to_save",
            "a LoRA pair of a Linear",
            _RETRAIN,
        )

    def rank(self, module: str) -> int:
        """r of a module: `rank_pattern`'s, else the adapter's."""
        return int(_by_pattern(self.config.get("rank_pattern"), module, self.config["r"]))

    def scaling(self, module: str) -> float:
        """s of the module, by PEFT's rules (peft/tuners/lora/layer.py, update_layer)."""
        alpha, rank = (
            float(_by_pattern(self.config.get("alpha_pattern"), module, self.config["lora_alpha"])),
            self.rank(module),
        )
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def apply(self, weight: torch.Tensor, update: Update) -> torch.Tensor:
        """The updated weight in bf16: merged by the convention above, or the replacement rounded once."""
        if update.replacement:
            return self.read(update.replacement).to(torch.bfloat16)
        return merge(weight, self.product(update))

    def product(self, update: Update) -> LowRank:
        """The factors of an update in fp32, in the orientation in which the base stores its weight."""
        assert update.a and update.b
        a, b = self.read(update.a), self.read(update.b)
        return (
            LowRank(b.T.contiguous(), a.T.contiguous(), update.scaling)
            if self.config.get("fan_in_fan_out")
            else LowRank(a, b, update.scaling)
        )

    def stored(self) -> Shards:
        """The adapter's own tensors, as stored."""
        return self._shards


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The first pattern that matches the end of the module's name, as PEFT reads rank_pattern and alpha_pattern."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _read_config(directory: Path) -> dict[str, Any]:
    file = directory / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(
            f"adapter {directory}", f"no {CONFIG}", "a PEFT adapter", "point at the directory PEFT saved"
        ) from None
    except ValueError as err:
        raise AdapterError(f"adapter config {file}", err, "JSON", "copy the file again") from err
    _refuse(file, config)
    return dict(config)


def _refuse(file: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"peft_type of {file}", kind, "LORA", _RETRAIN)
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or config[key] <= 0:
            raise AdapterError(f"{key} of {file}", config.get(key), "a positive number", _REFIT)
    if config.get("bias", "none") != "none":
        raise AdapterError(f"bias of {file}", config["bias"], "none: trained biases are not merged", _RETRAIN)
    init = str(config.get("init_lora_weights")).lower()
    if init.startswith(_CHANGES_THE_BASE):
        raise AdapterError(
            f"init_lora_weights of {file}", init, "an initialisation that leaves the base as it is", _RETRAIN
        )
    for key, value in config.items():
        if value and key not in _HANDLED | _WITHOUT_EFFECT_ON_A_MERGE:
            raise AdapterError(f"{key} of {file}", value, "off: Slipway does not merge it", _RETRAIN)
