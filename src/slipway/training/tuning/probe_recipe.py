"""NeMo's fine-tuning recipe as something whose settings change in place: what the probe process times.

After `setup()` on one GPU the recipe differs between settings in five places only, each put back by NeMo's own code:
checkpoint wrappers (`_parallelize_unsharded_fsdp2`), the SDPA backends allowed with and without recomputation
(`resolve_sdpa_method`, `_patch_attention`), the model's attention dispatch key, the loss module, and the packed
batches. Anything else of the step is the recipe's. Written against nemo-automodel 0.7.0.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch
from nemo_automodel._transformers.kernel_patches import _patch_attention
from nemo_automodel._transformers.model_init import resolve_sdpa_method
from nemo_automodel.components.config.loader import ConfigNode
from nemo_automodel.components.distributed.activation_checkpointing import unwrap_checkpoint_wrapper
from nemo_automodel.components.distributed.model_parallelizer import (
    _parallelize_unsharded_fsdp2,
    get_model_parallelizer,
)
from nemo_automodel.components.utils.model_utils import _supports_seq_lens
from nemo_automodel.recipes._typed_config import RecipeConfig
from nemo_automodel.recipes.llm.train_ft import TrainFinetuneRecipeForNextTokenPrediction, _maybe_downgrade_loss_fn
from transformers.utils import is_flash_attn_2_available

Doc = dict[str, Any]
MODES: dict[str, bool | str] = {"none": False, "selective": "selective", "full": True}


class ProbeRecipe:
    """One recipe on one GPU. `document` is a rendered recipe, `limit` the bytes it may take there while it is set up;
    `apply` changes it to a setting with a limit of its own, `step` runs one optimizer step."""

    def __init__(self, document: Doc, limit: int) -> None:
        self._document = document
        _allow(limit)
        self._recipe = TrainFinetuneRecipeForNextTokenPrediction(ConfigNode(copy.deepcopy(document)))
        self._recipe.setup()
        if self._recipe.dist_env.world_size != 1 or self._recipe.pp_enabled:
            raise RuntimeError("settings are probed on one GPU, without parallelism of any kind")
        self._model = self._recipe.model_parts[0]
        self._use_cache = getattr(self._model.config, "use_cache", None)
        self._batches: Iterator[list[Doc]] = iter(())
        self._samples: list[Any] | None = None
        self._model.train()

    def facts(self) -> Doc:
        """The device, resident bytes of the loaded model, and which attentions and losses are installed or absent."""
        installed = {
            "flash_attention_2": is_flash_attn_2_available(),
            "fused_linear": find_spec("cut_cross_entropy") is not None,
        }
        resident = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
        return {
            "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
            "resident_bytes": resident,
            "attentions": ["sdpa", *(["flash_attention_2"] if installed["flash_attention_2"] else []), "eager"],
            "absent": [name for name, available in installed.items() if not available],
            "torch": torch.__version__,
        }

    def apply(self, setting: Doc) -> None:
        """Change to a setting, which the next `step` runs. Raises whatever NeMo raises when it cannot."""
        torch.manual_seed(0)
        self._attention(setting["attention"])
        self._checkpointing(setting["checkpointing"])
        self._loss(setting["loss"])
        self._data(setting)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        _allow(setting["limit_bytes"])

    def step(self) -> tuple[int, float]:
        """One optimizer step: its non-padding tokens, and seconds until the device has finished."""
        batches = next(self._batches)
        tokens = sum(real_tokens(batch) for batch in batches)
        synchronize()
        start = time.perf_counter()
        self._recipe.timestamp = start
        self._recipe._run_train_optim_step([dict(batch) for batch in batches], self._recipe.max_grad_norm)
        synchronize()
        return tokens, time.perf_counter() - start

    def peak(self) -> Doc:
        """Peak bytes since `apply`: of tensors, and reserved by the allocator, which is what must fit."""
        if not torch.cuda.is_available():
            return {"allocated_bytes": 0, "reserved_bytes": 0}
        return {
            "allocated_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
        }

    def release(self) -> None:
        """Free what a step leaves behind: gradients of a step that failed, batches, the allocator's cache."""
        self._batches = iter(())
        for optimizer in self._recipe.optimizer:
            optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @staticmethod
    def is_oom(err: BaseException) -> bool:
        """Whether an exception means that the device's memory is full: CUDA's libraries raise types of their own."""
        message = str(err).lower()
        return isinstance(err, torch.OutOfMemoryError) or "out of memory" in message or "alloc_failed" in message

    def _attention(self, name: str) -> None:
        if self._model.config._attn_implementation != name:
            self._model.set_attn_implementation(name)

    def _checkpointing(self, mode: str) -> None:
        """Take every wrapper off, then what setup does on one GPU: wrappers by the mode, and SDPA backends that suit
        it."""
        model, mesh = self._model, self._recipe.mesh_context
        unwrap(model)
        if getattr(model, "is_gradient_checkpointing", False):
            model.gradient_checkpointing_disable()
        if self._use_cache is not None:
            model.config.use_cache = self._use_cache
        changed = copy.copy(mesh)
        changed.activation_checkpointing = MODES[mode]
        _parallelize_unsharded_fsdp2(model, changed, parallelizer=get_model_parallelizer(model))
        self._sdpa(MODES[mode])

    def _sdpa(self, checkpointing: bool | str) -> None:
        if "forward" not in self._model.__dict__:
            return  # NeMo's own model classes are left as they are
        del self._model.__dict__["forward"]
        method = resolve_sdpa_method(None, self._recipe.device_mesh, checkpointing)
        if method is None:
            torch.backends.cuda.enable_cudnn_sdp(True)
            torch.backends.cuda.enable_flash_sdp(True)
            torch.backends.cuda.enable_mem_efficient_sdp(True)
            torch.backends.cuda.enable_math_sdp(True)
        _patch_attention(self._model, method)

    def _loss(self, section: Doc) -> None:
        config = RecipeConfig(ConfigNode({**copy.deepcopy(self._document), "loss_fn": section}))
        self._recipe.loss_fn = _maybe_downgrade_loss_fn(config.loss_fn.build(), self._model, False)

    def _data(self, setting: Doc) -> None:
        """Batches of the recipe's own dataset, packer and collater at this length and micro-batch, repeated in turn."""
        document = copy.deepcopy(self._document)
        document["packed_sequence"]["packed_sequence_size"] = document["dataset"]["seq_length"] = setting["pack_length"]
        document["step_scheduler"]["local_batch_size"] = setting["micro_batch"]
        config = RecipeConfig(ConfigNode(document)).dataloader
        if self._samples is None:
            self._samples = list(config.dataset_config.build(tokenizer=self._recipe.tokenizer))
        loader = replace(config, dataset_config=Tokenized(self._samples)).build(
            tokenizer=self._recipe.tokenizer,
            dp_rank=0,
            dp_world_size=1,
            supports_seq_lens=_supports_seq_lens(self._model),
            packing_contract=self._recipe._configure_packing(),
        )
        batches = [
            batch
            for batch in itertools.islice(loader, setting["accumulate"] * 4)
            if len(batch["labels"]) == setting["micro_batch"]
        ]
        if len(batches) < setting["accumulate"]:
            raise ValueError(
                f"the probe data make {len(batches)} micro-batches of {setting['micro_batch']} x "
                f"{setting['pack_length']}"
            )
        whole = itertools.cycle(batches)
        self._batches = iter(lambda: list(itertools.islice(whole, setting["accumulate"])), None)


@dataclass(frozen=True)
class Tokenized:
    """Samples tokenized once, in place of the dataset that would do it again for every setting."""

    samples: list[Any]

    def build(self) -> list[Any]:
        """Copies of the samples: NeMo's packer changes them."""
        return [dict(sample) for sample in self.samples]


def unwrap(model: torch.nn.Module) -> None:
    """Replace every checkpoint wrapper in the tree by the module inside it."""
    for name, child in list(model.named_children()):
        inner = unwrap_checkpoint_wrapper(child)
        if inner is not child:
            model._modules[name] = inner
        unwrap(inner)


def real_tokens(batch: Doc) -> int:
    """Tokens of documents in a batch, padding left out; where documents are not marked, up to the last label of each
    row."""
    marks = batch.get("_packed_seq_ids", batch.get("attention_mask"))
    if marks is not None and marks.ndim == 2:
        return int((marks > 0).sum())
    labels = (batch["labels"] != -100).int()
    return int((labels.flip(-1).cummax(-1).values).sum())


def _allow(limit: int) -> None:
    """Let the allocator of this process hold at most `limit` bytes of the GPU: more than that is out of memory."""
    if torch.cuda.is_available():
        share = limit / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))


def synchronize() -> None:
    """Wait until the GPU has finished; nothing without one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
